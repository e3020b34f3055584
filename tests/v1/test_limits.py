"""Limits that an operator sets in the environment, and clients that a module brings itself: a gateway of their own."""

from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.conftest import write_agent, write_source
from tests.harness import DemoServer, FaultyServer, GatewayServer, Template, eventually
from tests.harness.asking import Ask, ask_whole, deltas, messages_of

OWN_CLIENT = """
from agents import Agent, OpenAIChatCompletionsModel
from openai import AsyncOpenAI

client = AsyncOpenAI(base_url="{base_url}", api_key="sk-own", max_retries=0)
agent = Agent(name="Own", instructions="Answer.", model=OpenAIChatCompletionsModel("{model}", client))
"""
LONG = "[[words=1000]] [[delay=0.05]]"  # 50 seconds


@pytest.fixture(scope="module")
def limited(
    tmp_path_factory: pytest.TempPathFactory, template: Template, faulty: FaultyServer
) -> Iterator[GatewayServer]:
    folder = tmp_path_factory.mktemp("limited")
    agents = folder / "agents"
    write_agent(agents / "Plain", model="demo")
    write_agent(agents / "Persistent", model="faulty/tool-repeated-ids", tools=True)  # two rounds of tools
    for model in ("ok", "rate-limited", "status-401", "status-500", "cut"):
        write_source(agents / "own" / model, OWN_CLIENT.format(base_url=faulty.base_url, model=model))
    write_source(agents / "own" / "down", OWN_CLIENT.format(base_url="http://127.0.0.1:9/v1", model="x"))
    limits = {"GATEWAY_MAX_TURNS": "2", "GATEWAY_RUN_TIMEOUT": "4", "GATEWAY_MAX_BODY_BYTES": "2000"}
    with GatewayServer(folder / "data", agents=agents, template=template, **limits) as server:
        yield server


def failure(gateway: GatewayServer, ask: Ask, agent: str, asked: str = "Hi") -> tuple[int | None, Any, Any]:
    """The status (None for an error in the stream), the error object, and Retry-After."""
    with pytest.raises(openai.APIError) as caught:
        ask(gateway.openai(), agent, asked)
    response = getattr(caught.value, "response", None)
    retry_after = response.headers.get("retry-after") if response is not None else None
    return getattr(caught.value, "status_code", None), caught.value.body, retry_after


def test_run_that_needs_more_turns_than_allowed_is_told(limited: GatewayServer, ask: Ask) -> None:
    status, told, _ = failure(limited, ask, "default/persistent")

    assert status == 500
    assert told == {
        "message": "The agent 'default/persistent' reached its limit of turns without an answer.",
        "type": "server_error",
        "param": None,
        "code": "max_turns",
    }


TIMED_OUT = {
    "message": "The run took longer than 4 s and was stopped.",
    "type": "upstream_error",
    "param": None,
    "code": "run_timeout",
}


def test_run_that_takes_too_long_is_stopped(limited: GatewayServer, demo: DemoServer) -> None:
    status, told, _ = failure(limited, ask_whole, "default/plain", LONG)

    assert (status, told) == (504, TIMED_OUT)
    eventually(demo.active, 0)


def test_stream_that_takes_too_long_is_stopped_and_keeps_its_words(limited: GatewayServer, demo: DemoServer) -> None:
    said: list[str] = []
    stream = limited.openai().chat.completions.create(model="plain", messages=messages_of(LONG), stream=True)
    with pytest.raises(openai.APIError) as caught:
        said.extend(piece for chunk in stream for piece in deltas([chunk], "content"))

    words = "".join(said).split()
    assert words == [f"word{number}" for number in range(1, len(words) + 1)]
    assert len(words) > 3
    assert caught.value.body == TIMED_OUT
    eventually(demo.active, 0)


def test_body_over_the_limit_is_refused(limited: GatewayServer) -> None:
    answer = limited.with_key("POST", "/v1/chat/completions", body=b"x" * 2001)

    assert (answer.status, answer.error["code"]) == (413, "request_too_large")


def test_client_that_a_module_brings_itself_is_used(limited: GatewayServer, ask: Ask, faulty: FaultyServer) -> None:
    told = ask(limited.openai(), "own/ok", "Hi")

    assert (told.content, told.finish_reason) == ("Hello from the faulty upstream.", "stop")
    assert faulty.last()["headers"]["authorization"] == "Bearer sk-own"


@pytest.mark.parametrize(
    ("agent", "status", "code", "retry_after"),
    [
        ("own/rate-limited", 429, "rate_limit_exceeded", "7"),
        ("own/status-401", 502, "upstream_unauthorised", None),
        ("own/status-500", 502, "upstream_error", None),
        ("own/down", 502, "upstream_unreachable", None),
    ],
)
def test_failure_of_a_modules_own_client_is_told_alike(
    limited: GatewayServer, ask: Ask, agent: str, status: int, code: str, retry_after: str | None
) -> None:
    told = failure(limited, ask, agent)

    assert (told[0], told[1]["type"], told[1]["code"], told[2]) == (status, "upstream_error", code, retry_after)


def test_cut_of_a_modules_own_client_is_an_error(limited: GatewayServer, ask: Ask) -> None:
    status, told, _ = failure(limited, ask, "own/cut")

    assert status == (502 if ask is ask_whole else None)
    assert told["type"] == "upstream_error"
