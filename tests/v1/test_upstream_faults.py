"""An LLM server that is down, slow, refuses, breaks off or sends nonsense: told clearly, and forgotten at once.

The agents `faulty/<fault>` ask the model of that name of tests/fakes/faulty_upstream.py. The upstream's patience is
2.5 s for the first byte and 2 s for silence where there is no end to them (tests/harness/gateway.py).
"""

import contextlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest

from tests.fakes import faulty_upstream as fake
from tests.harness import FaultyServer, GatewayServer, eventually
from tests.harness.asking import Ask, Told, ask_streamed, ask_whole, deltas, messages_of
from tests.harness.gateway import upstream_of

USAGE = (7, 5)
SAYS = "Upstream 'faulty' says: "
CUT = "Upstream 'faulty' closed the connection in the middle of its answer."
UNFINISHED = "Upstream 'faulty' ended its answer without finishing it."


@pytest.fixture(autouse=True)
def _nothing_is_left_behind(client: openai.OpenAI, faulty: FaultyServer) -> Any:
    """The next request is served, and no answer stays open at the upstream."""
    yield
    assert ask_whole(client, "faulty/ok", "Hi") == Told(fake.TEXT, "stop", USAGE)
    eventually(faulty.active, 0)


def error(message: str, code: str) -> dict[str, Any]:
    return {"message": message, "type": "upstream_error", "param": None, "code": code}


def stream_until_error(client: openai.OpenAI, model: str) -> tuple[str, openai.APIError]:
    """The text that came before the in-stream error, and the error that the official client raised for it."""
    said: list[str] = []
    stream = client.chat.completions.create(model=model, messages=messages_of("Hi"), stream=True)
    with pytest.raises(openai.APIError) as caught:
        said.extend(piece for chunk in stream for piece in deltas([chunk], "content"))
    assert type(caught.value) is openai.APIError  # of the stream, not of its status
    return "".join(said), caught.value


REFUSED: list[Any] = [
    ("status-400", openai.BadRequestError, 400, error(SAYS + "The upstream says 400.", "upstream_rejected")),
    ("status-404", openai.NotFoundError, 404, error(SAYS + "The upstream says 404.", "upstream_rejected")),
    ("status-413", openai.APIStatusError, 413, error(SAYS + "The upstream says 413.", "upstream_rejected")),
    (
        "detail-error",
        openai.UnprocessableEntityError,
        422,
        error(
            SAYS + '[{"loc": ["body", "tools"], "msg": "Extra inputs are not permitted"}]',
            "upstream_rejected",
        ),
    ),
    ("rate-limited", openai.RateLimitError, 429, error(SAYS + "Slow down.", "rate_limit_exceeded")),
    ("rate-limited-date", openai.RateLimitError, 429, error(SAYS + "Slow down.", "rate_limit_exceeded")),
    (
        "too-long",
        openai.BadRequestError,
        400,
        error("Upstream 'faulty' failed instead of answering: The prompt is too long.", "upstream_rejected"),
    ),
    *(
        (
            f"status-{status}",
            openai.InternalServerError,
            502,
            error(
                f"Upstream 'faulty' refused the gateway's secret ({status}). Enter it again in the admin.",
                "upstream_unauthorised",
            ),
        )
        for status in (401, 403)
    ),
    *(
        (
            f"status-{status}",
            openai.InternalServerError,
            502,
            error(f"Upstream 'faulty' failed with status {status}: The upstream says {status}.", "upstream_error"),
        )
        for status in (500, 503)
    ),
    (
        "text-error",
        openai.InternalServerError,
        502,
        error("Upstream 'faulty' failed with status 500: Internal Server Error", "upstream_error"),
    ),
    (
        "html",
        openai.InternalServerError,
        502,
        error(
            "Upstream 'faulty' answered with a web page instead of a chat completion. "
            "Its base URL probably lacks /v1, or a proxy stands in between.",
            "upstream_error",
        ),
    ),
    *(
        (fault, openai.InternalServerError, 502, error(f"Upstream 'faulty' {message}", code))
        for fault, message, code in (
            ("overloaded", "failed with status 503: Too much to do.", "upstream_error"),
            ("drops", "closed the connection without an answer (ServerDisconnectedError).", "upstream_unreachable"),
            ("cut-at-once", "closed the connection in the middle of its answer.", "upstream_cut"),
            ("error-first", "failed instead of answering: No memory is left.", "upstream_error"),
            ("plain-text", "answered with text/plain instead of a stream of events.", "upstream_error"),
        )
    ),
]
SLOW = error("Upstream 'hasty' did not begin to answer within 2.5 s.", "upstream_timeout")


@pytest.mark.parametrize(("fault", "kind", "status", "body"), REFUSED, ids=[one[0] for one in REFUSED])
def test_refusal_before_the_first_event_keeps_a_status_of_its_own(
    client: openai.OpenAI, ask: Ask, fault: str, kind: type[openai.APIStatusError], status: int, body: dict[str, Any]
) -> None:
    """Of a stream too, within its first second."""
    with pytest.raises(kind) as caught:
        ask(client, f"faulty/{fault}", "Hi")

    assert (caught.value.status_code, caught.value.body) == (status, body)


@pytest.mark.parametrize("fault", ["slow-headers", "hang-at-once"])
def test_upstream_that_does_not_begin_in_time_is_told(client: openai.OpenAI, fault: str) -> None:
    with pytest.raises(openai.InternalServerError) as caught:
        ask_whole(client, f"faulty/{fault}", "Hi")

    assert (caught.value.status_code, caught.value.body) == (504, SLOW)


def test_refusal_later_is_told_in_the_stream(client: openai.OpenAI) -> None:
    """Headers leave after a second; this server is silent for longer."""
    said, told = stream_until_error(client, "faulty/slow-headers")

    assert (said, told.body) == ("", SLOW)


@pytest.mark.parametrize(
    ("fault", "seconds"), [("rate-limited", {7}), ("overloaded", {20}), ("rate-limited-date", set(range(20, 41)))]
)
def test_time_to_come_again_is_handed_on(client: openai.OpenAI, ask: Ask, fault: str, seconds: set[int]) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        ask(client, f"faulty/{fault}", "Hi")

    assert int(caught.value.response.headers["retry-after"]) in seconds


BROKEN_OFF: list[Any] = [
    ("cut", "Hello from the", CUT, "upstream_cut", 502),
    ("cut-clean", "Hello from the", UNFINISHED, "upstream_cut", 502),
    (
        "hang",
        "Hello from the",
        "Upstream 'hasty' was silent for 2 s in the middle of its answer.",
        "upstream_silent",
        504,
    ),
    (
        "error-in-stream",
        "Hello",
        "Upstream 'faulty' failed in the middle of its answer: The model crashed.",
        "upstream_error",
        502,
    ),
    (
        "error-line",
        "Hello",
        "Upstream 'faulty' failed in the middle of its answer: The model crashed.",
        "upstream_error",
        502,
    ),
    (
        "garbage-later",
        "Hello",
        "Upstream 'faulty' sent something that is not a chat completion chunk: b'{not JSON'",
        "upstream_garbage",
        502,
    ),
]


@pytest.mark.parametrize(("fault", "text", "message", "code", "status"), BROKEN_OFF, ids=[one[0] for one in BROKEN_OFF])
def test_answer_that_breaks_off_ends_the_stream_with_an_error(
    client: openai.OpenAI, fault: str, text: str, message: str, code: str, status: int
) -> None:
    said, told = stream_until_error(client, f"faulty/{fault}")

    assert (said, told.message, told.body) == (text, message, error(message, code))


@pytest.mark.parametrize(("fault", "text", "message", "code", "status"), BROKEN_OFF, ids=[one[0] for one in BROKEN_OFF])
def test_answer_that_breaks_off_is_an_error_when_whole(
    client: openai.OpenAI, fault: str, text: str, message: str, code: str, status: int
) -> None:
    with pytest.raises(openai.InternalServerError) as caught:
        ask_whole(client, f"faulty/{fault}", "Hi")

    assert (caught.value.status_code, caught.value.body) == (status, error(message, code))


def test_answer_that_is_not_json_is_an_error(client: openai.OpenAI, ask: Ask) -> None:
    with pytest.raises(openai.InternalServerError) as caught:
        ask(client, "faulty/garbage", "Hi")

    assert caught.value.status_code == 502
    assert caught.value.body == error(
        "Upstream 'faulty' sent something that is not a JSON object: b'this is {not JSON'",
        "upstream_garbage",
    )


def test_stream_that_ends_with_an_error_still_ends_properly(gateway: GatewayServer) -> None:
    """Chat UIs lose the text that they have when the body is cut."""
    body = b'{"model": "faulty/cut", "messages": [{"role": "user", "content": "Hi"}], "stream": true}'

    answer = gateway.with_key("POST", "/v1/chat/completions", body=body)

    assert answer.status == 200
    *_, failure, done, end = answer.body.decode().split("\n\n")
    assert (done, end) == ("data: [DONE]", "")
    assert failure.startswith('data: {"error":{')


def test_upstream_that_is_down_is_told(client: openai.OpenAI, ask: Ask) -> None:
    with pytest.raises(openai.InternalServerError) as caught:
        ask(client, "default/down", "Hi")

    assert caught.value.status_code == 502
    assert caught.value.body == error(
        "Upstream 'down' cannot be reached: nothing listens there. Is the server started?", "upstream_unreachable"
    )


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("ok", Told(fake.TEXT, "stop", USAGE)),
        ("no-done", Told(fake.TEXT, "stop", USAGE)),
        ("crlf", Told(fake.TEXT, "stop", USAGE)),
        ("gzip", Told(fake.TEXT, "stop", USAGE)),
        ("closes", Told(fake.TEXT, "stop", USAGE)),
        ("mislabelled", Told(fake.TEXT, "stop", USAGE)),
        ("whole-anyway", Told(fake.TEXT, "stop", USAGE)),
        ("fails-once", Told(fake.TEXT, "stop", USAGE)),
        ("drops-once", Told(fake.TEXT, "stop", USAGE)),
        ("rate-limited-once", Told(fake.TEXT, "stop", USAGE)),
        ("usage-every-chunk", Told(fake.TEXT, "stop", USAGE)),
        ("split-utf8", Told(fake.EMOJI_TEXT, "stop", USAGE)),
        ("u2028", Told(fake.LINE_SEPARATOR_TEXT, "stop", USAGE)),
        ("length", Told(fake.TEXT, "length", USAGE)),
        ("content-filter", Told(fake.PIECES[0], "content_filter", USAGE)),
        ("refusal", Told("", "stop", USAGE, refusal="I cannot do that.")),
        ("empty", Told("", "stop", USAGE)),
        ("reasoning", Told(fake.TEXT, "stop", USAGE, reasoning="Let me think.")),
        ("reasoning-content", Told(fake.TEXT, "stop", USAGE, reasoning="Let me think.")),
        ("flood", Told("x" * fake.FLOOD, "stop", USAGE)),
        ("big-chunk", Told("x" * fake.BIG, "stop", USAGE)),
        ("tool-fragments", Told(fake.TEXT, "stop", (14, 10))),
        ("tool-no-id", Told(fake.TEXT, "stop", (14, 10))),
        ("stop-with-tools", Told(fake.TEXT, "stop", (14, 10))),
        ("tool-repeated-ids", Told(fake.TEXT, "stop", (21, 15))),
    ],
)
def test_oddity_that_is_no_fault_is_answered(client: openai.OpenAI, ask: Ask, fault: str, told: Told) -> None:
    assert ask(client, f"faulty/{fault}", "Hi") == told


def test_usage_is_estimated_when_the_upstream_reports_none(
    gateway: GatewayServer, client: openai.OpenAI, ask: Ask
) -> None:
    told = ask(client, "faulty/no-usage", "x" * 4000, extra_headers={"x-request-id": f"no-usage-{ask.__name__}"})

    assert (told.content, told.finish_reason) == (fake.TEXT, "stop")
    prompt, completion = told.usage
    assert 1000 <= prompt < 1100  # four characters a token, and what surrounds them
    assert 5 <= completion <= 7  # a token a piece
    run = gateway.wait_for_run(request_id=f"no-usage-{ask.__name__}")
    assert (run["prompt_tokens"], run["completion_tokens"], run["tokens_estimated"]) == (prompt, completion, True)


@pytest.mark.parametrize("fault", ["tool-no-id", "tool-fragments"])
def test_tool_calls_without_ids_reach_their_tools(client: openai.OpenAI, faulty: FaultyServer, fault: str) -> None:
    ask_whole(client, f"faulty/{fault}", "Weather and time")

    messages = faulty.last()["body"]["messages"]
    (asked,) = [one for one in messages if one.get("tool_calls")]
    results = {one["tool_call_id"]: one["content"] for one in messages if one["role"] == "tool"}
    by_name = {call["function"]["name"]: results.pop(call["id"]).split()[0] for call in asked["tool_calls"]}
    assert by_name == {"get_weather": "Rain", "get_time": "Noon"}
    assert results == {}


def test_tool_calls_with_repeated_ids_keep_their_order(client: openai.OpenAI, faulty: FaultyServer) -> None:
    ask_whole(client, "faulty/tool-repeated-ids", "Weather, twice")

    messages = faulty.last()["body"]["messages"]
    assert [one["role"] for one in messages] == ["system", "user", "assistant", "tool", "assistant", "tool"]
    ids = [call["id"] for one in messages for call in one.get("tool_calls", ())]
    assert [one["tool_call_id"] for one in messages if one["role"] == "tool"] == ids
    assert len(set(ids)) == 2


@pytest.mark.parametrize(
    ("fault", "outcome", "finish_reason", "code"),
    [
        ("ok", "completed", "stop", ""),
        ("length", "completed", "length", ""),
        ("refusal", "refused", "stop", ""),
        ("cut", "failed", "", "upstream_cut"),
        ("rate-limited", "failed", "", "rate_limit_exceeded"),
        ("status-500", "failed", "", "upstream_error"),
    ],
)
def test_run_row_tells_how_it_went(
    gateway: GatewayServer, client: openai.OpenAI, fault: str, outcome: str, finish_reason: str, code: str
) -> None:
    identifier = f"fault-row-{fault}"
    try:
        ask_streamed(client, f"faulty/{fault}", "Hi", extra_headers={"x-request-id": identifier})
    except openai.APIError as error:
        message = str(dict(error.body)["message"])  # type: ignore[call-overload]
    else:
        message = ""

    run = gateway.wait_for_run(request_id=identifier)
    assert (run["outcome"], run["finish_reason"], run["error_code"], run["error"]) == (
        outcome,
        finish_reason,
        code,
        message,
    )
    assert (run["upstream"], run["model"]) == (upstream_of(fault), fault)


def test_every_fault_leaves_a_run(gateway: GatewayServer, client: openai.OpenAI) -> None:
    faults = [*fake.FAULTS, "slow-headers"]

    def meet(fault: str) -> None:
        with contextlib.suppress(openai.APIError):
            ask_streamed(client, f"faulty/{fault}", "Hi", extra_headers={"x-request-id": f"fault-any-{fault}"})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(meet, faults))

    eventually(lambda: gateway.operator.count_runs(request_id__startswith="fault-any-"), len(faults))
    runs = gateway.operator.runs(request_id__startswith="fault-any-")
    assert {(run["upstream"], run["model"]) for run in runs} == {(upstream_of(fault), fault) for fault in faults}


def test_failure_stands_in_the_log_with_the_request_id(gateway: GatewayServer, client: openai.OpenAI) -> None:
    with pytest.raises(openai.APIError):
        ask_streamed(client, "faulty/cut", "Hi", extra_headers={"x-request-id": "fault-log"})

    line = gateway.wait_for_log(event="run_finished", request_id="fault-log")
    assert (line["outcome"], line["error_code"], line["error"]) == ("failed", "upstream_cut", CUT)


def test_connections_are_kept_for_the_next_request(client: openai.OpenAI, faulty: FaultyServer) -> None:
    before = faulty.stats()

    for _ in range(20):
        ask_streamed(client, "faulty/ok", "Hi")

    after = faulty.stats()
    assert {name: after[name] - before[name] for name in ("started", "finished", "cancelled", "active")} == {
        "started": 20,
        "finished": 20,
        "cancelled": 0,
        "active": 0,
    }


def test_no_connection_is_left_when_all_is_over(faulty: FaultyServer) -> None:
    """Of all the faults above; those that could serve again are kept for four seconds."""
    eventually(lambda: faulty.stats()["connections"], 1, within=20)  # the one that asks


def test_slow_reader_does_not_keep_other_requests_waiting(client: openai.OpenAI) -> None:
    """One client does not read its flood; others are answered meanwhile, and it gets all of it in the end."""
    stream = client.chat.completions.create(model="faulty/flood", messages=messages_of("Hi"), stream=True)

    assert ask_whole(client, "faulty/ok", "Hi").content == fake.TEXT
    assert len("".join(deltas(list(stream), "content"))) == fake.FLOOD
