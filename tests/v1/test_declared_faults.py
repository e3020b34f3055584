"""The same misbehaving server as in test_upstream_faults.py, behind declared agents: `declared/<fault>`."""

from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.fakes import faulty_upstream as fake
from tests.harness import FaultyServer, GatewayServer, eventually
from tests.harness.asking import Ask, Told, ask_streamed, ask_whole
from tests.harness.gateway import declared_faults
from tests.v1.test_upstream_faults import BROKEN_OFF, REFUSED, stream_until_error

USAGE = (7, 5)
ROUNDS = {"tool-no-id": 2, "stop-with-tools": 2, "tool-repeated-ids": 3}  # model calls until there is an answer
TEXTS = {
    "ok": fake.TEXT,
    "no-done": fake.TEXT,
    "crlf": fake.TEXT,
    "gzip": fake.TEXT,
    "closes": fake.TEXT,
    "usage-every-chunk": fake.TEXT,
    "split-utf8": fake.EMOJI_TEXT,
    "u2028": fake.LINE_SEPARATOR_TEXT,
    "flood": "x" * fake.FLOOD,
    "big-chunk": "x" * fake.BIG,
}
AT_ONCE = [one for one in REFUSED if one[0] != "slow-headers"]
BROKEN_WHOLE = [one for one in BROKEN_OFF if one[0] in ("cut", "error-in-stream")]
_FAULTS = [
    *ROUNDS,
    *TEXTS,
    *(one[0] for one in AT_ONCE),
    "slow-headers",
    *(one[0] for one in BROKEN_OFF),
    "garbage",
    "no-usage",
]


@pytest.fixture(scope="module", autouse=True)
def _agents(gateway: GatewayServer, faulty: FaultyServer) -> Iterator[None]:
    """One for each fault, with a tool that the server may call; gone afterwards."""
    put = gateway.operator
    tool = put.make(
        "tools.Tool", name="look", kind="http", url=f"{faulty.url}/stats", extract="active", allow_private_hosts=True
    )
    with declared_faults(gateway, _FAULTS, tools=["look"]):
        yield
    put.remove("tools.Tool", tool)


@pytest.fixture(autouse=True)
def _nothing_stays_open(faulty: FaultyServer) -> Iterator[None]:
    yield
    eventually(faulty.active, 0)


@pytest.mark.parametrize(("fault", "text"), TEXTS.items(), ids=list(TEXTS))
def test_answer_is_whole_however_it_is_sent(client: openai.OpenAI, ask: Ask, fault: str, text: str) -> None:
    assert ask(client, f"declared/{fault}", "Hi") == Told(text, "stop", USAGE)


@pytest.mark.parametrize(("fault", "rounds"), ROUNDS.items(), ids=list(ROUNDS))
def test_tool_calls_are_understood_however_they_are_marked(
    client: openai.OpenAI, ask: Ask, faulty: FaultyServer, fault: str, rounds: int
) -> None:
    assert ask(client, f"declared/{fault}", "Hi") == Told(fake.TEXT, "stop", (7 * rounds, 5 * rounds))

    messages = faulty.last()["body"]["messages"]
    made = [one["id"] for message in messages for one in message.get("tool_calls", ())]
    assert (len(set(made)), [one["tool_call_id"] for one in messages if one["role"] == "tool"]) == (rounds - 1, made)


@pytest.mark.parametrize(("fault", "kind", "status", "body"), AT_ONCE, ids=[one[0] for one in AT_ONCE])
def test_refusal_keeps_a_status_of_its_own_and_its_run(
    client: openai.OpenAI,
    gateway: GatewayServer,
    fault: str,
    kind: type[openai.APIStatusError],
    status: int,
    body: dict[str, Any],
) -> None:
    id = f"declared-refusal-{fault}"
    with pytest.raises(kind) as caught:
        ask_streamed(client, f"declared/{fault}", "Hi", extra_headers={"x-request-id": id})

    assert (caught.value.status_code, caught.value.body) == (status, body)
    assert gateway.wait_for_run(request_id=id)["error_code"] == body["code"]


@pytest.mark.parametrize("fault", ["status-404", "rate-limited", "status-401", "text-error", "html"])
def test_refusal_of_a_whole_answer_is_the_same(client: openai.OpenAI, fault: str) -> None:
    ((kind, status, body),) = [one[1:] for one in REFUSED if one[0] == fault]

    with pytest.raises(kind) as caught:
        ask_whole(client, f"declared/{fault}", "Hi")

    assert (caught.value.status_code, caught.value.body) == (status, body)


def test_refusal_after_a_second_is_told_in_the_stream(client: openai.OpenAI) -> None:
    said, told = stream_until_error(client, "declared/slow-headers")

    assert (said, told.code) == ("", "upstream_timeout")


@pytest.mark.parametrize(("fault", "text", "message", "code", "status"), BROKEN_OFF, ids=[one[0] for one in BROKEN_OFF])
def test_answer_that_breaks_off_ends_the_stream_with_an_error(
    client: openai.OpenAI, fault: str, text: str, message: str, code: str, status: int
) -> None:
    said, told = stream_until_error(client, f"declared/{fault}")

    assert (said, told.message, told.code) == (text, message, code)


@pytest.mark.parametrize(
    ("fault", "text", "message", "code", "status"), BROKEN_WHOLE, ids=[one[0] for one in BROKEN_WHOLE]
)
def test_answer_that_breaks_off_is_an_error_when_whole(
    client: openai.OpenAI, fault: str, text: str, message: str, code: str, status: int
) -> None:
    with pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(model=f"declared/{fault}", messages=[{"role": "user", "content": "Hi"}])

    assert (caught.value.status_code, caught.value.code) == (status, code)


def test_answer_that_is_not_json_is_an_error(client: openai.OpenAI, ask: Ask) -> None:
    with pytest.raises(openai.InternalServerError) as caught:
        ask(client, "declared/garbage", "Hi")

    assert caught.value.code == "upstream_garbage"


def test_usage_that_nobody_reports_is_estimated(client: openai.OpenAI, gateway: GatewayServer) -> None:
    client.chat.completions.create(
        model="declared/no-usage",
        messages=[{"role": "user", "content": "Hi"}],
        extra_headers={"x-request-id": "declared-no-usage"},
    )

    assert gateway.wait_for_run(request_id="declared-no-usage")["tokens_estimated"]
