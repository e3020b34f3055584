"""POST /v1/completions: texts gone on with by the models of an upstream."""

import json
from typing import Any

import openai
import pytest

from tests.fakes import faulty_upstream as fake
from tests.harness import GatewayServer, RawServer, eventually

PATH = "/v1/completions"


@pytest.fixture(autouse=True)
def _nothing_is_left_behind(raw: RawServer) -> Any:
    yield
    eventually(raw.active, 0)


def test_completion_is_answered_whole(models: openai.OpenAI, raw: RawServer, passing: GatewayServer) -> None:
    answer = models.completions.create(
        model="raw/ok", prompt="Once", suffix="end", extra_headers={"x-request-id": "cmpl-whole"}
    )

    assert raw.last()["body"] == {"model": "ok", "prompt": "Once", "suffix": "end"}
    told = answer.model_dump()
    assert told.pop("id").startswith("cmpl-")
    assert told == {
        "object": "text_completion",
        "created": 1,
        "model": "raw/ok",
        "system_fingerprint": None,
        "choices": [{"index": 0, "text": fake.TEXT, "logprobs": None, "finish_reason": "length"}],
        "usage": {**fake.USAGE, "completion_tokens_details": None, "prompt_tokens_details": None},
    }
    run = passing.wait_for_run(request_id="cmpl-whole")
    assert (run["id"], run["agent_id"], run["outcome"]) == (answer.id, "raw/ok", "completed")
    assert (run["finish_reason"], run["prompt_tokens"], run["completion_tokens"]) == ("length", 7, 5)


def test_completion_is_streamed(models: openai.OpenAI, raw: RawServer, passing: GatewayServer) -> None:
    chunks = list(
        models.completions.create(
            model="raw/ok",
            prompt="Once",
            stream=True,
            stream_options={"include_usage": True},
            extra_headers={"x-request-id": "cmpl-stream"},
        )
    )

    assert "".join(c.text for one in chunks for c in one.choices) == fake.TEXT
    assert [c.finish_reason for one in chunks for c in one.choices] == [None] * len(fake.PIECES) + ["length"]
    assert {(one.object, one.model, one.id) for one in chunks} == {("text_completion", "raw/ok", chunks[0].id)}
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 12
    run = passing.wait_for_run(request_id="cmpl-stream")
    assert (run["streamed"], run["outcome"], run["prompt_tokens"]) == (True, "completed", 7)


def test_usage_is_not_streamed_to_who_did_not_ask_for_it(models: openai.OpenAI, raw: RawServer) -> None:
    chunks = list(models.completions.create(model="raw/ok", prompt="Once", stream=True))

    assert raw.last()["body"]["stream_options"] == {"include_usage": True}
    assert [one for one in chunks if one.usage or not one.choices] == []


def test_completion_that_nobody_finishes_is_finished(models: openai.OpenAI) -> None:
    chunks = list(models.completions.create(model="raw/no-finish", prompt="Once", stream=True))

    assert chunks[-1].choices[0].model_dump() == {
        "index": 0,
        "text": "",
        "logprobs": None,
        "finish_reason": "stop",
    }


@pytest.mark.parametrize(
    ("prompt", "answers"), [(["One", "Two"], 2), ([1, 2, 3], 1), ([[1, 2], [3]], 1), ("", 1)], ids=str
)
def test_prompts_of_every_kind_go_to_the_server(
    models: openai.OpenAI, raw: RawServer, prompt: Any, answers: int
) -> None:
    answer = models.completions.create(model="raw/ok", prompt=prompt)

    assert raw.last()["body"]["prompt"] == prompt
    assert [one.index for one in answer.choices] == list(range(answers))


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_refusal_of_the_server_is_handed_on(models: openai.OpenAI, stream: bool) -> None:
    with pytest.raises(openai.RateLimitError) as caught:
        models.completions.create(model="raw/rate-limited", prompt="Once", stream=stream)

    assert caught.value.response.headers["retry-after"] == "7"


@pytest.mark.parametrize(
    ("path", "body"), [("/v1/completions", {"prompt": "Hi"}), ("/v1/embeddings", {"input": "Hi"})], ids=str
)
def test_agent_says_which_endpoint_it_has(passing: GatewayServer, path: str, body: dict[str, Any]) -> None:
    answer = passing.with_key("POST", path, body=json.dumps({"model": "raw/length", **body}).encode())

    assert (answer.status, answer.error) == (
        400,
        {
            "message": f"'raw/length' is an agent, and agents answer at /v1/chat/completions; {path} takes the models "
            "of upstreams.",
            "type": "invalid_request_error",
            "param": "model",
            "code": "agent_needs_chat",
        },
    )


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"model": "raw/ok"}, "prompt"),
        ({"prompt": "Hi"}, "model"),
        ({"model": "raw/ok", "prompt": "Hi", "max_tokens": "many"}, "max_tokens"),
        ({"model": "raw/ok", "prompt": 5}, "prompt"),
    ],
)
def test_bad_request_is_refused(passing: GatewayServer, raw: RawServer, body: dict[str, Any], param: str) -> None:
    before = raw.stats()["requests"]

    answer = passing.with_key("POST", PATH, body=json.dumps(body).encode())

    assert (answer.status, answer.error["param"]) == (400, param)
    assert raw.stats()["requests"] == before


def test_key_without_a_grant_is_refused(passing: GatewayServer) -> None:
    key = passing.operator.issue_key("Agents only", agents=["default/*"])["credential"]
    client = passing.openai(key)

    def refusals() -> list[str]:
        found = []
        for ask in (
            lambda: client.completions.create(model="raw/ok", prompt="Hi"),
            lambda: client.embeddings.create(model="raw/ok", input="Hi"),
        ):
            with pytest.raises(openai.APIStatusError) as caught:
                ask()
            found.append(type(caught.value).__name__)
        return found

    eventually(refusals, ["PermissionDeniedError"] * 2)
