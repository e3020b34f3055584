"""Models of an upstream as they are, over /v1/chat/completions: what the server says comes out as it said it.

The models `raw/<fault>` are those of tests/fakes/raw_upstream.py and faulty_upstream.py; the upstream's patience is
4 s for the first byte and 3 s for silence.
"""

import http.client
import json
import socket
from collections.abc import Callable
from typing import Any

import openai
import pytest

from tests.fakes import faulty_upstream as fake
from tests.fakes import raw_upstream as raw_fake
from tests.harness import GatewayServer, RawServer, eventually
from tests.harness.asking import Ask, Told, ask_streamed, ask_whole, deltas, messages_of, read_stream

USAGE = (7, 5)
CHAT = "/v1/chat/completions"
SAYS = "Upstream 'raw' says: "
WEATHER: list[Any] = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": {}}}}
    for name in ("get_weather", "get_time")
]


@pytest.fixture(autouse=True)
def _nothing_is_left_behind(models: openai.OpenAI, raw: RawServer) -> Any:
    """The next request is served, and neither an answer nor a connection stays open: one at most, to be used again."""
    yield
    assert ask_whole(models, "raw/ok", "Hi") == Told(fake.TEXT, "stop", USAGE)
    eventually(raw.active, 0)
    eventually(lambda: raw.connections() <= 2, True)


def post(gateway: GatewayServer, model: str, **members: Any) -> Any:
    body = json.dumps({"model": f"raw/{model}", "messages": messages_of("Hi"), **members}).encode()
    return gateway.with_key("POST", CHAT, body=body)


def frames(answer: Any) -> list[bytes]:
    assert answer.status == 200
    found = answer.body.split(b"\n\n")
    assert found[-1] == b""
    return [one.removeprefix(b"data: ") for one in found[:-1] if not one.startswith(b":")]


def chunks(answer: Any) -> list[Any]:
    *told, done = frames(answer)
    assert done == b"[DONE]"
    return [json.loads(one) for one in told]


def stream_until_error(client: openai.OpenAI, model: str) -> tuple[str, openai.APIError]:
    said: list[str] = []
    stream = client.chat.completions.create(model=model, messages=messages_of("Hi"), stream=True)
    with pytest.raises(openai.APIError) as caught:
        said.extend(piece for chunk in stream for piece in deltas([chunk], "content"))
    return "".join(said), caught.value


# --- what goes to the server, and what comes back --------------------------------------------------------------------


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_request_goes_to_the_server_as_it_came(passing: GatewayServer, raw: RawServer, streamed: bool) -> None:
    sent = {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Grüße 👋\u2028", "name": "ann", "mood": "fine"},
        ],
        "tools": WEATHER,
        "tool_choice": {"type": "function", "function": {"name": "get_time"}},
        "n": 1,
        "logprobs": True,
        "top_logprobs": 2,
        "temperature": 0.30000001,
        "functions": [],
        "modalities": ["text"],
        "cache_prompt": False,
        "nothing": None,
        "stream": streamed,
    }

    post(passing, "ok", **sent)

    usage = {"stream_options": {"include_usage": True}} if streamed else {}
    assert raw.last()["body"] == {"model": "ok", **sent, **usage}


def test_chunk_comes_out_byte_for_byte_but_for_what_is_the_gateways(passing: GatewayServer) -> None:
    first, *_ = frames(post(passing, "rich", stream=True))

    assert b'"choices":' + raw_fake.RICH_CHOICES in first
    members = json.loads(first)
    members.pop("choices")
    run = passing.operator.runs(id=members["id"]) or [passing.wait_for_run(id=members["id"])]
    assert run[0]["agent_id"] == "raw/rich"
    assert members == {
        "id": members["id"],
        "object": "chat.completion.chunk",
        "created": 1_763_596_800,
        "model": "raw/rich",
        "timings": raw_fake.TIMINGS,  # and neither event, type nor selected_model_id
    }


def test_whole_answer_comes_out_byte_for_byte_but_for_what_is_the_gateways(passing: GatewayServer) -> None:
    answer = post(passing, "rich")

    assert b'"choices":' + raw_fake.RICH_WHOLE_CHOICES in answer.body
    members = answer.json()
    del members["choices"]
    assert members.pop("id").startswith("chatcmpl-")
    assert members == {
        "object": "chat.completion",
        "created": 1_763_596_800,
        "model": "raw/rich",
        "timings": raw_fake.TIMINGS,
        "usage": {**fake.USAGE, "cost": 0.25, "prompt_tokens_details": {"cached_tokens": 3}},
    }


def test_several_answers_come_to_the_client(models: openai.OpenAI, passing: GatewayServer) -> None:
    whole = models.chat.completions.create(model="raw/two", messages=messages_of("Hi"), n=2)
    streamed = chunks(post(passing, "two", n=2, stream=True))

    assert [one.message.content for one in whole.choices] == ["Answer 0", "Answer 1"]
    told = [(one["index"], one["delta"].get("content"), one["finish_reason"]) for c in streamed for one in c["choices"]]
    assert told == [(0, "Answer 0", None), (1, "Answer 1", None), (0, None, "stop"), (1, None, "stop")]


def test_usage_is_told_to_who_asked_for_it_and_to_nobody_else(passing: GatewayServer) -> None:
    plain = chunks(post(passing, "ok", stream=True))
    asked = chunks(post(passing, "ok", stream=True, stream_options={"include_usage": True}))

    assert [one for one in plain if "usage" in one or not one["choices"]] == []
    assert [one["usage"] for one in asked] == [None] * (len(asked) - 1) + [fake.USAGE]
    assert asked[-1]["choices"] == []
    assert len(asked) == len(plain) + 1


def test_what_a_server_leaves_out_is_there(passing: GatewayServer, models: openai.OpenAI) -> None:
    streamed = chunks(post(passing, "bare", stream=True))
    whole = post(passing, "bare").json()

    assert {(one["object"], one["model"], type(one["created"]), one["id"]) for one in streamed} == {
        ("chat.completion.chunk", "raw/bare", int, streamed[0]["id"])
    }
    assert [one["choices"][0]["index"] for one in streamed] == [0] * 6
    assert (streamed[-1]["choices"][0]["delta"], streamed[-1]["choices"][0]["finish_reason"]) == ({}, "stop")
    assert whole["choices"] == [
        {"message": {"role": "assistant", "content": fake.TEXT}, "index": 0, "finish_reason": "stop"}
    ]
    assert (whole["object"], whole["model"], type(whole["created"])) == ("chat.completion", "raw/bare", int)
    assert whole["usage"]["completion_tokens"] == len(fake.TEXT) // 4
    assert ask_streamed(models, "raw/bare", "Hi").content == fake.TEXT


def test_message_without_a_word_has_empty_content(models: openai.OpenAI) -> None:
    answer = models.chat.completions.create(model="raw/null-content", messages=messages_of("Hi"))

    assert answer.choices[0].message.content == ""


def test_verdict_of_a_filter_before_the_answer_is_handed_on(passing: GatewayServer) -> None:
    first, *_ = chunks(post(passing, "filter-verdict", stream=True))

    assert (first["choices"], first["prompt_filter_results"]) == ([], [{"prompt_index": 0}])


def test_comments_and_event_lines_of_the_server_are_not_handed_on(passing: GatewayServer) -> None:
    answer = post(passing, "crlf", stream=True)

    lines = [line for line in answer.body.split(b"\n") if line]
    assert [line for line in lines if not line.startswith(b"data: ")] == []
    assert b"\r" not in answer.body


def test_carriage_return_inside_a_chunk_does_not_break_its_line(passing: GatewayServer) -> None:
    answer = post(passing, "carriage-return", stream=True)

    assert chunks(answer)[0]["choices"] == [{"index": 0, "delta": {"content": "Hi"}}]
    assert b"\r" not in answer.body


def test_chunks_that_come_together_leave_together(passing: GatewayServer) -> None:
    """2,000 pieces of one letter need far fewer writes; the client sees every one of them."""
    answer = post(passing, "flood", stream=True)

    pieces = [one["choices"][0]["delta"].get("content") for one in chunks(answer)]
    assert pieces == ["", *["x"] * fake.FLOOD, None]


# --- oddities that are no faults -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("ok", Told(fake.TEXT, "stop", USAGE)),
        ("no-done", Told(fake.TEXT, "stop", USAGE)),
        ("crlf", Told(fake.TEXT, "stop", USAGE)),
        ("gzip", Told(fake.TEXT, "stop", USAGE)),
        ("closes", Told(fake.TEXT, "stop", USAGE)),
        ("usage-every-chunk", Told(fake.TEXT, "stop", USAGE)),
        ("split-utf8", Told(fake.EMOJI_TEXT, "stop", USAGE)),
        ("u2028", Told(fake.LINE_SEPARATOR_TEXT, "stop", USAGE)),
        ("content-filter", Told(fake.PIECES[0], "content_filter", USAGE)),
        ("refusal", Told("", "stop", USAGE, refusal="I cannot do that.")),
        ("empty", Told("", "stop", USAGE)),
        ("reasoning-content", Told(fake.TEXT, "stop", USAGE, reasoning="Let me think.")),
        ("big-chunk", Told("x" * fake.BIG, "stop", USAGE)),
        ("whole-in-stream", Told(fake.TEXT, "stop", USAGE)),
    ],
)
def test_oddity_that_is_no_fault_is_answered(models: openai.OpenAI, ask: Ask, fault: str, told: Told) -> None:
    assert ask(models, f"raw/{fault}", "Hi") == told


def test_stream_that_nobody_finishes_is_finished(passing: GatewayServer, models: openai.OpenAI) -> None:
    told = ask_streamed(models, "raw/no-finish", "Hi")

    assert (told.content, told.finish_reason) == (fake.TEXT, "stop")
    assert chunks(post(passing, "no-finish", stream=True))[-1]["choices"] == [
        {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}
    ]


def test_usage_is_estimated_when_the_server_reports_none(
    passing: GatewayServer, models: openai.OpenAI, ask: Ask
) -> None:
    identifier = f"pass-no-usage-{ask.__name__}"

    told = ask(models, "raw/no-usage", "x" * 4000, extra_headers={"x-request-id": identifier})

    prompt, completion = told.usage
    assert 1000 <= prompt < 1100  # four characters a token, and what surrounds them
    assert 5 <= completion <= 7
    run = passing.wait_for_run(request_id=identifier)
    assert (run["prompt_tokens"], run["completion_tokens"], run["tokens_estimated"]) == (prompt, completion, True)


# --- tools of the client ---------------------------------------------------------------------------------------------


def calls_of(streamed: list[Any]) -> dict[int, dict[str, Any]]:
    """The tool calls that a client puts together from the chunks, by index."""
    calls: dict[int, dict[str, Any]] = {}
    for one in (call for chunk in streamed for c in chunk.choices for call in c.delta.tool_calls or ()):
        call = calls.setdefault(one.index, {"ids": [], "name": "", "arguments": ""})
        call["ids"] += [one.id] if one.id else []
        call["name"] += one.function.name or ""
        call["arguments"] += one.function.arguments or ""
    return calls


def finish_reason(streamed: list[Any]) -> str:
    (found,) = [c.finish_reason for chunk in streamed for c in chunk.choices if c.finish_reason]
    return str(found)


def test_tool_calls_in_fragments_without_index_or_id_can_be_put_together(models: openai.OpenAI) -> None:
    streamed = read_stream(models, "raw/fragments", "Weather and time", tools=WEATHER)

    calls = calls_of(streamed)
    assert {index: (one["name"], one["arguments"]) for index, one in calls.items()} == {
        0: ("get_weather", '{"city": "Oslo"}'),
        1: ("get_time", "{}"),
    }
    ids = [id for one in calls.values() for id in one["ids"]]
    assert len(set(ids)) == 2 == len(ids)
    assert finish_reason(streamed) == "tool_calls"  # though the server said "stop"


def test_answer_to_a_tool_that_was_named_finishes_as_openai_has_it(models: openai.OpenAI) -> None:
    named = {"type": "function", "function": {"name": "get_weather"}}

    assert finish_reason(read_stream(models, "raw/fragments", "Hi", tools=WEATHER, tool_choice=named)) == "stop"


def whole_call(client: openai.OpenAI, model: str, messages: list[Any]) -> Any:
    answer = client.chat.completions.create(model=model, messages=messages, tools=WEATHER)
    assert answer.choices[0].finish_reason == "tool_calls"
    return answer.choices[0].message


def streamed_call(client: openai.OpenAI, model: str, messages: list[Any]) -> Any:
    manager = client.chat.completions.stream(model=model, messages=messages, tools=WEATHER)
    with manager as stream:
        return stream.get_final_completion().choices[0].message


@pytest.mark.parametrize("asked", [whole_call, streamed_call], ids=["whole", "streamed"])
@pytest.mark.parametrize("fault", ["tool-no-id", "tool-repeated-ids", "stop-with-tools"])
def test_client_runs_its_tools_and_sends_their_results(
    models: openai.OpenAI, raw: RawServer, fault: str, asked: Callable[..., Any]
) -> None:
    conversation: list[Any] = messages_of("Weather and time")
    rounds = 2 if fault == "tool-repeated-ids" else 1

    for _ in range(rounds):
        message = asked(models, f"raw/{fault}", conversation)
        conversation.append(message.model_dump(exclude_none=True, exclude={"parsed"}))
        for call in message.tool_calls:
            assert call.type == "function"
            conversation.append({"role": "tool", "tool_call_id": call.id, "content": f"{call.function.name} says"})
    answer = models.chat.completions.create(model=f"raw/{fault}", messages=conversation, tools=WEATHER)

    assert answer.choices[0].message.content == fake.TEXT
    sent = raw.last()["body"]["messages"]
    ids = [call["id"] for one in sent for call in one.get("tool_calls", ())]
    assert [one["tool_call_id"] for one in sent if one["role"] == "tool"] == ids
    assert len(set(ids)) == (1 if fault == "stop-with-tools" else 2)


# --- faults ----------------------------------------------------------------------------------------------------------


def error(message: str, code: str) -> dict[str, Any]:
    return {"message": message, "type": "upstream_error", "param": None, "code": code}


REFUSED: list[Any] = [
    ("raw/status-400", 400, error(SAYS + "The upstream says 400.", "upstream_rejected")),
    ("raw/status-404", 404, error(SAYS + "The upstream says 404.", "upstream_rejected")),
    ("raw/rate-limited", 429, error(SAYS + "Slow down.", "rate_limit_exceeded")),
    (
        "raw/status-401",
        502,
        error(
            "Upstream 'raw' refused the gateway's secret (401). Enter it again in the admin.", "upstream_unauthorised"
        ),
    ),
    ("raw/status-500", 502, error("Upstream 'raw' failed with status 500: The upstream says 500.", "upstream_error")),
    (
        "raw/html",
        502,
        error(
            "Upstream 'raw' answered with a web page instead of a chat completion. "
            "Its base URL probably lacks /v1, or a proxy stands in between.",
            "upstream_error",
        ),
    ),
    (
        "off/any",
        502,
        error(
            "Upstream 'off' cannot be reached: nothing listens there. Is the server started?", "upstream_unreachable"
        ),
    ),
]


@pytest.mark.parametrize(("model", "status", "body"), REFUSED, ids=[one[0] for one in REFUSED])
def test_refusal_before_the_first_event_keeps_a_status_of_its_own(
    models: openai.OpenAI, ask: Ask, model: str, status: int, body: dict[str, Any]
) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        ask(models, model, "Hi")

    assert (caught.value.status_code, caught.value.body) == (status, body)


def test_rate_limit_of_the_server_is_handed_on_with_its_retry_after(models: openai.OpenAI, ask: Ask) -> None:
    with pytest.raises(openai.RateLimitError) as caught:
        ask(models, "raw/rate-limited", "Hi")

    assert caught.value.response.headers["retry-after"] == "7"


@pytest.mark.parametrize("fault", ["garbage", "not-utf8", "odd-tools", "error-first"])
def test_stream_that_makes_no_sense_from_the_beginning_is_refused(models: openai.OpenAI, fault: str) -> None:
    with pytest.raises(openai.InternalServerError) as caught:
        ask_streamed(models, f"raw/{fault}", "Hi")

    assert caught.value.status_code == 502
    assert dict(caught.value.body)["type"] == "upstream_error"  # type: ignore[call-overload]


def test_whole_answer_that_is_garbage_is_refused(models: openai.OpenAI) -> None:
    with pytest.raises(openai.InternalServerError) as caught:
        ask_whole(models, "raw/garbage", "Hi")

    assert (caught.value.status_code, caught.value.code) == (502, "upstream_garbage")


@pytest.mark.parametrize(
    ("fault", "text", "message", "code"),
    [
        ("cut", "Hello from the", "closed the connection in the middle of its answer.", "upstream_cut"),
        ("cut-clean", "Hello from the", "ended its answer without finishing it.", "upstream_cut"),
        ("hang", "Hello from the", "was silent for 3 s in the middle of its answer.", "upstream_silent"),
        ("error-in-stream", "Hello", "failed in the middle of its answer: The model crashed.", "upstream_error"),
    ],
)
def test_answer_that_breaks_off_ends_the_stream_with_an_error(
    passing: GatewayServer, models: openai.OpenAI, fault: str, text: str, message: str, code: str
) -> None:
    said, told = stream_until_error(models, f"raw/{fault}")

    assert (said, told.body) == (text, error(f"Upstream 'raw' {message}", code))
    *_, failure, done = frames(post(passing, fault, stream=True))
    assert (json.loads(failure), done) == ({"error": told.body}, b"[DONE]")


def test_answer_that_is_cut_is_an_error_when_whole(models: openai.OpenAI) -> None:
    with pytest.raises(openai.InternalServerError) as caught:
        ask_whole(models, "raw/cut", "Hi")

    assert (caught.value.status_code, caught.value.code) == (502, "upstream_cut")


def test_silence_before_the_first_event_lets_headers_leave_after_a_second(passing: GatewayServer) -> None:
    answer = post(passing, "slow-headers", stream=True)

    assert answer.status == 200
    assert answer.body.startswith(b": waiting\n\n")
    failure, done = frames(answer)
    assert done == b"[DONE]"
    assert json.loads(failure)["error"]["code"] == "upstream_timeout"


# --- governance ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "outcome", "finish_reason", "code"),
    [
        ("ok", "completed", "stop", ""),
        ("content-filter", "completed", "content_filter", ""),
        ("fragments", "completed", "tool_calls", ""),
        ("cut", "failed", "", "upstream_cut"),
        ("rate-limited", "failed", "", "rate_limit_exceeded"),
    ],
)
def test_run_row_tells_how_it_went(
    passing: GatewayServer, models: openai.OpenAI, fault: str, outcome: str, finish_reason: str, code: str
) -> None:
    identifier = f"pass-row-{fault}"
    try:
        read_stream(models, f"raw/{fault}", "Hi", extra_headers={"x-request-id": identifier})
    except openai.APIError:
        assert code != ""

    run = passing.wait_for_run(request_id=identifier)
    assert (run["outcome"], run["finish_reason"], run["error_code"]) == (outcome, finish_reason, code)
    assert (run["agent_id"], run["upstream"], run["model"], run["streamed"]) == (f"raw/{fault}", "raw", fault, True)
    assert run["model_calls"] == 1
    if outcome == "completed":
        assert (run["prompt_tokens"], run["completion_tokens"], run["tokens_estimated"]) == (7, 5, False)


def test_run_has_its_cost(passing: GatewayServer, models: openai.OpenAI) -> None:
    passing.operator.put_price("empty", prompt_usd=1000, completion_usd=2000)
    configured(passing)

    ask_whole(models, "raw/empty", "Hi", extra_headers={"x-request-id": "pass-cost"})

    assert passing.wait_for_run(request_id="pass-cost")["cost_usd"] == pytest.approx(7e-3 + 2 * 5e-3)


def configured(gateway: GatewayServer) -> None:
    """Snapshots are whole: where a key of now is known, everything before it is in force."""
    marker = gateway.operator.issue_key("marker")["credential"]
    eventually(lambda: gateway.request("GET", "/v1/models", headers={"x-api-key": marker}).status, 200)


def test_key_sees_and_may_use_only_what_its_grants_cover(passing: GatewayServer) -> None:
    key = passing.operator.issue_key("Reader of some", agents=["raw/ok", "raw/tool-no*"])["credential"]
    configured(passing)
    client = passing.openai(key)

    assert sorted(one.id for one in client.models.list()) == [
        "raw/ok",
        "raw/tool-no-id",
    ]
    assert ask_whole(client, "raw/ok", "Hi").content == fake.TEXT
    with pytest.raises(openai.PermissionDeniedError):
        ask_whole(client, "raw/flood", "Hi")


def test_limits_count_requests_and_tokens(passing: GatewayServer) -> None:
    issued = passing.operator.issue_key("Twice a day")
    passing.operator.put_limit(key_id=issued["id"], requests_per_day=2, tokens_per_day=1000)
    configured(passing)
    ask: Any = passing.openai(issued["credential"]).chat.completions.with_raw_response.create

    told = [ask(model="raw/ok", messages=messages_of("Hi"), stream=stream).headers for stream in (False, True)]
    with pytest.raises(openai.RateLimitError) as caught:
        ask(model="raw/ok", messages=messages_of("Hi"))

    assert [one["x-ratelimit-remaining-requests"] for one in told] == ["1", "0"]
    assert [one["x-ratelimit-remaining-tokens"] for one in told] == ["1000", "988"]
    assert caught.value.body["type"] == "requests"  # type: ignore[index, call-overload]


def test_model_object_is_owned_by_the_upstream_and_tells_no_secret(passing: GatewayServer) -> None:
    answer = passing.with_key("GET", "/v1/models/raw/ok").json()

    assert answer == {
        "id": "raw/ok",
        "object": "model",
        "created": 0,
        "owned_by": "raw",
        "name": "raw/ok",
        "description": "The model ok of raw, as it is.",
        "info": {
            "meta": {
                "description": "The model ok of raw, as it is.",
                "capabilities": {"usage": True, "vision": True, "file_upload": True},
            }
        },
    }


def test_agent_of_the_same_id_wins(passing: GatewayServer, models: openai.OpenAI) -> None:
    assert [one.owned_by for one in models.models.list() if one.id == "raw/length"] == ["agent-gateway"]
    assert ask_whole(models, "raw/length", "[[say=I am the agent.]]").content == "I am the agent."


def test_model_that_the_upstream_does_not_list_is_not_found(models: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        ask_whole(models, "raw/okay", "Hi")

    assert dict(caught.value.body)["message"].startswith("The model 'raw/okay' does not exist. Did you mean 'raw/ok'")  # type: ignore[call-overload]


def test_bad_request_is_refused_before_the_server_is_asked(passing: GatewayServer, raw: RawServer) -> None:
    before = raw.stats()["requests"]

    answer = post(passing, "ok", messages=[{"role": "nobody", "content": "Hi"}])

    assert (answer.status, answer.error["param"]) == (400, "messages[0].role")
    assert raw.stats()["requests"] == before


# --- clients that leave, runs that take too long ---------------------------------------------------------------------


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_client_that_leaves_ends_the_servers_work(passing: GatewayServer, raw: RawServer, streamed: bool) -> None:
    cancelled = raw.stats()["cancelled"]
    identifier = f"pass-leave-{streamed}"
    connection = http.client.HTTPConnection(passing.url.removeprefix("http://"), timeout=30)
    body = json.dumps({"model": "raw/slow-headers", "messages": messages_of("Hi"), "stream": streamed})
    connection.request("POST", CHAT, body, {"x-api-key": passing.key, "x-request-id": identifier})
    eventually(raw.active, 1)

    assert connection.sock is not None
    connection.sock.shutdown(socket.SHUT_RDWR)
    connection.close()

    eventually(raw.active, 0)
    assert raw.stats()["cancelled"] == cancelled + 1
    run = passing.wait_for_run(request_id=identifier)
    assert (run["outcome"], run["finish_reason"], run["model_calls"]) == ("cancelled", "", 1)


def test_connections_are_kept_for_the_next_request(models: openai.OpenAI, raw: RawServer) -> None:
    before = raw.stats()

    for _ in range(10):
        ask_streamed(models, "raw/ok", "Hi")
        ask_whole(models, "raw/ok", "Hi")

    after = raw.stats()
    told = {name: after[name] - before[name] for name in ("started", "finished", "cancelled", "active")}
    assert told == {"started": 20, "finished": 20, "cancelled": 0, "active": 0}
    assert raw.connections() <= 2


def test_run_that_takes_too_long_is_stopped(start_gateway: Callable[..., GatewayServer], raw: RawServer) -> None:
    server = start_gateway({}, GATEWAY_RUN_TIMEOUT="4")
    server.operator.put_upstream("raw", kind="other", base_url=raw.base_url, exposes_models=True)
    configured(server)
    client = server.openai()

    said, streamed = stream_until_error(client, "raw/hang")
    with pytest.raises(openai.InternalServerError) as whole:
        ask_whole(client, "raw/hang", "Hi")

    assert (said, streamed.code) == ("Hello from the", "run_timeout")
    assert (whole.value.status_code, whole.value.code) == (504, "upstream_timeout")
    eventually(raw.active, 0)
