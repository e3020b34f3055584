"""POST /v1/embeddings: vectors of the models of an upstream."""

import json
from typing import Any

import openai
import pytest

from tests.fakes.raw_upstream import vector
from tests.harness import GatewayServer, RawServer, eventually

PATH = "/v1/embeddings"


@pytest.fixture(autouse=True)
def _nothing_is_left_behind(raw: RawServer) -> Any:
    yield
    eventually(raw.active, 0)


def test_embeddings_come_in_openais_shape(passing: GatewayServer, raw: RawServer) -> None:
    body = json.dumps({"model": "raw/ok", "input": ["One", "Two"], "user": "ann"}).encode()

    answer = passing.with_key("POST", PATH, body=body, x_request_id="embd-shape")

    assert raw.last()["body"] == {"model": "ok", "input": ["One", "Two"], "user": "ann"}
    assert answer.json() == {
        "object": "list",
        "model": "raw/ok",
        "data": [{"object": "embedding", "index": index, "embedding": vector(index)} for index in (0, 1)],
        "usage": {"prompt_tokens": 9, "total_tokens": 9},
    }
    run = passing.wait_for_run(request_id="embd-shape")
    assert (run["agent_id"], run["upstream"], run["model"], run["outcome"]) == ("raw/ok", "raw", "ok", "completed")
    assert (run["prompt_tokens"], run["completion_tokens"], run["tokens_estimated"]) == (9, 0, False)
    assert run["id"].startswith("embd-")


@pytest.mark.parametrize(
    ("given", "count"), [("One", 1), (["One", "Two"], 2), ([1, 2, 3], 1), ([[1, 2], [3], [4]], 3)], ids=str
)
def test_inputs_of_every_kind_go_to_the_server(models: openai.OpenAI, raw: RawServer, given: Any, count: int) -> None:
    answer = models.embeddings.create(model="raw/ok", input=given)

    assert raw.last()["body"]["input"] == given
    assert [one.embedding for one in answer.data] == [vector(index) for index in range(count)]


def test_dimensions_and_encoding_go_to_the_server(models: openai.OpenAI, raw: RawServer) -> None:
    """The official client asks for base64 by itself, and reads it."""
    short = models.embeddings.create(model="raw/ok", input="One", dimensions=2)
    packed = raw.last()["body"]
    plain = models.embeddings.create(model="raw/ok", input="One", encoding_format="float")

    assert short.data[0].embedding == vector(0)[:2]
    assert (packed["dimensions"], packed["encoding_format"]) == (2, "base64")
    assert plain.data[0].embedding == vector(0)
    assert raw.last()["body"]["encoding_format"] == "float"


def test_usage_is_estimated_when_the_server_reports_none(passing: GatewayServer, models: openai.OpenAI) -> None:
    headers = {"x-request-id": "embd-usage"}

    answer = models.embeddings.create(model="raw/no-usage", input="x" * 400, extra_headers=headers)

    assert 100 <= answer.usage.prompt_tokens <= 102
    run = passing.wait_for_run(request_id="embd-usage")
    assert (run["prompt_tokens"], run["tokens_estimated"]) == (answer.usage.prompt_tokens, True)


def test_batch_of_many_inputs_is_answered(models: openai.OpenAI) -> None:
    answer = models.embeddings.create(model="raw/ok", input=[f"Text {number}" for number in range(2000)])

    assert [one.index for one in answer.data] == list(range(2000))


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ("status-404", 404, "upstream_rejected"),
        ("status-401", 502, "upstream_unauthorised"),
        ("rate-limited", 429, "rate_limit_exceeded"),
        ("status-500", 502, "upstream_error"),
        ("html", 502, "upstream_error"),
        ("garbage", 502, "upstream_garbage"),
        ("cut", 502, "upstream_cut"),
    ],
)
def test_fault_of_the_server_is_told(models: openai.OpenAI, fault: str, status: int, code: str) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        models.embeddings.create(model=f"raw/{fault}", input="One")

    assert (caught.value.status_code, caught.value.code) == (status, code)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"model": "raw/ok"}, "input"),
        ({"model": "raw/ok", "input": []}, "input"),
        ({"model": "raw/ok", "input": {"text": "One"}}, "input"),
        ({"model": "raw/ok", "input": "One", "dimensions": 0}, "dimensions"),
        ({"model": "raw/ok", "input": "One", "encoding_format": "hex"}, "encoding_format"),
    ],
)
def test_bad_request_is_refused(passing: GatewayServer, raw: RawServer, body: dict[str, Any], param: str) -> None:
    before = raw.stats()["requests"]

    answer = passing.with_key("POST", PATH, body=json.dumps(body).encode())

    assert (answer.status, answer.error["param"]) == (400, param)
    assert raw.stats()["requests"] == before
