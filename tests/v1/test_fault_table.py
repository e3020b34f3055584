"""Every fault of tests/fakes/faulty_upstream.py, met by each kind of model, streamed and whole: what the client is
told, and that its Run says the same.

`faulty/<fault>` is a module, `declared/<fault>` an agent of the admin, `raw/<fault>` the model passed through. What
else can be said of a fault stands in test_upstream_faults.py, test_declared_faults.py and test_pass_through.py.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest

from tests.fakes import faulty_upstream as fake
from tests.harness import FaultyServer, GatewayServer, RawServer, eventually
from tests.harness.asking import deltas, messages_of
from tests.harness.gateway import declared_faults
from tests.harness.upstreams import LLMServer

WORDS = {
    "split-utf8": fake.EMOJI_TEXT,
    "u2028": fake.LINE_SEPARATOR_TEXT,
    "flood": "x" * fake.FLOOD,
    "big-chunk": "x" * fake.BIG,
    "content-filter": fake.PIECES[0],
    "refusal": "",
    "empty": "",
    "nul": fake.TEXT.replace("Hello", "Hello\0"),
}
NOT_BEGUN = {  # the answer to these ends before it has begun, with this code
    "status-400": "upstream_rejected",
    "status-401": "upstream_unauthorised",
    "status-403": "upstream_unauthorised",
    "status-404": "upstream_rejected",
    "status-413": "upstream_rejected",
    "status-500": "upstream_error",
    "status-503": "upstream_error",
    "rate-limited": "rate_limit_exceeded",
    "rate-limited-date": "rate_limit_exceeded",
    "again-never": "rate_limit_exceeded",
    "again-odd": "rate_limit_exceeded",
    "overloaded": "upstream_error",
    "drops": "upstream_unreachable",
    "cut-at-once": "upstream_cut",
    "hang-at-once": "upstream_timeout",
    "slow-headers": "upstream_timeout",
    "error-first": "upstream_error",
    "html": "upstream_error",
    "garbage": "upstream_garbage",
    "detail-error": "upstream_rejected",
    "text-error": "upstream_error",
    "redirect": "upstream_error",
    "no-content": "upstream_error",
    "header-bomb": "upstream_garbage",
    "bad-gzip": "upstream_cut",
    "nan": "upstream_garbage",
    "deep": "upstream_garbage",
    "raw-nul": "upstream_garbage",
    "half-character": "upstream_garbage",
    "deep-refusal": "upstream_rejected",
    "refusal-in-pieces": "upstream_rejected",
    "refusal-with-nul": "upstream_rejected",
}
BROKEN = {  # these break off: what came before, where that is told, and the code
    "cut": ("Hello from the", "upstream_cut"),
    "cut-clean": ("Hello from the", "upstream_cut"),
    "bad-chunk-length": ("Hello from the", "upstream_cut"),
    "hang": ("Hello from the", "upstream_silent"),
    "hang-in-arguments": ("Hello", "upstream_silent"),
    "error-in-stream": ("Hello", "upstream_error"),
    "error-line": ("Hello", "upstream_error"),
    "garbage-later": ("Hello", "upstream_garbage"),
}
IN_STREAMS = {  # of which a stream is something else than a whole answer
    "too-long": ("", "upstream_rejected"),
    "plain-text": ("", "upstream_error"),
    "comments-only": ("", "upstream_cut"),
    "cr": ("", "upstream_garbage"),
    "no-choices": ("", ""),
}
IN_WHOLE_ANSWERS = {
    "too-long": ("", "upstream_garbage"),
    "plain-text": ("", "upstream_garbage"),
    "comments-only": ("", "upstream_garbage"),
    "cr": (fake.TEXT, ""),
    "no-choices": ("", "upstream_garbage"),
    "cut-clean": ("Hello from the", ""),
}
# Where a stalled machine sends the pieces together with the head, that cannot be read either.
OR_ELSE = {"bad-chunk-length": ("", "upstream_garbage")}
TOOLS = (
    "tool-no-id",
    "tool-fragments",
    "tool-repeated-ids",
    "stop-with-tools",
)  # passed through, calls are all there is
# Whoever is not asked again (this upstream has no retries) is told of it every second time: test_road.py.
NOW_AND_THEN = ("fails-once", "drops-once", "rate-limited-once")
# One takes the next one's connection; a bomb may take longer than this upstream's patience: test_road.py.
FAULTS = [one for one in [*fake.FAULTS, "slow-headers"] if one not in ("closes", "gzip-bomb")]


def expected(way: str, fault: str, *, is_whole: bool) -> tuple[str, str]:
    """The text and the code. `is_whole`: the upstream was asked for a whole answer."""
    text = WORDS.get(fault, fake.TEXT)
    if way == "raw" and fault in TOOLS:
        return "", ""
    told = (IN_WHOLE_ANSWERS if is_whole else IN_STREAMS).get(fault) or BROKEN.get(fault)
    if told is None:
        return ("", NOT_BEGUN[fault]) if fault in NOT_BEGUN else (text, "")
    return told


@pytest.fixture(scope="module", autouse=True)
def _agents(gateway: GatewayServer) -> Iterator[None]:
    """A declared agent for each fault; gone afterwards."""
    with declared_faults(gateway, FAULTS):
        yield


def streamed(client: openai.OpenAI, model: str, said: list[str], headers: Any) -> None:
    ask: Any = client.chat.completions.create
    stream = ask(model=model, messages=messages_of("Hi"), stream=True, extra_headers=headers)
    said.extend(piece for chunk in stream for piece in deltas([chunk], "content"))


def whole(client: openai.OpenAI, model: str, said: list[str], headers: Any) -> None:
    answer = client.chat.completions.create(model=model, messages=messages_of("Hi"), extra_headers=headers)
    said.append(answer.choices[0].message.content or "")


def met(server: GatewayServer, way: str, ask: Callable[..., None], fault: str) -> tuple[str, str]:
    """The text that the client got, and the code of its error."""
    said: list[str] = []
    try:
        ask(server.openai(), f"{way}/{fault}", said, {"x-request-id": f"table-{way}-{ask.__name__}-{fault}"})
    except openai.APIError as error:
        return ("".join(said), error.code or "none") if ask is streamed else ("", error.code or "none")
    return "".join(said), ""


@pytest.mark.parametrize("ask", [streamed, whole])
@pytest.mark.parametrize("way", ["faulty", "declared", "raw"])
def test_fault_is_answered_or_told_and_stands_in_its_run(
    gateway: GatewayServer,
    passing: GatewayServer,
    faulty: FaultyServer,
    raw: RawServer,
    way: str,
    ask: Callable[..., None],
) -> None:
    server: GatewayServer = passing if way == "raw" else gateway
    upstream: LLMServer = raw if way == "raw" else faulty
    is_whole = ask is whole and way != "faulty"  # a module's model is asked for streams alone
    # A whole answer has the time of the run: test_pass_through.py and test_declared_in_time.py.
    left_out = (fake.ENDLESS if is_whole else ()) + (
        (*NOW_AND_THEN, "length") if way == "raw" else ()
    )  # raw/length is an agent
    faults = [one for one in FAULTS if one not in left_out]
    due = {fault: expected(way, fault, is_whole=is_whole) for fault in faults}
    if ask is whole:
        due = {fault: ("" if code else text, code) for fault, (text, code) in due.items()}

    with ThreadPoolExecutor(6) as pool:
        told = dict(zip(faults, pool.map(lambda fault: met(server, way, ask, fault), faults), strict=True))

    for fault, other in OR_ELSE.items():
        if told[fault] == other:
            due[fault] = other
    assert told == due
    ours = f"table-{way}-{ask.__name__}-"
    eventually(lambda: server.operator.count_runs(request_id__startswith=ours), len(faults), within=10)
    runs = {one["request_id"].removeprefix(ours): one for one in server.operator.runs(request_id__startswith=ours)}
    failed = {fault: one["error_code"] for fault, one in runs.items() if one["outcome"] == "failed"}
    assert failed == {fault: code for fault, (_, code) in due.items() if code}
    assert {one["outcome"] for one in runs.values()} <= {"completed", "refused", "failed"}
    assert [fault for fault, one in runs.items() if not 0 <= one["prompt_tokens"] <= 20_000_000 * 3] == []
    eventually(upstream.active, 0)
    eventually(lambda: upstream.stats()["connections"], 1, within=20)  # the one that asks
