"""What an operator sets about an upstream, as the upstream sees it."""

from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.conftest import write_source
from tests.harness import FaultyServer, GatewayServer, eventually
from tests.harness.asking import ask_whole

DEMANDING = '''
from agents import Agent, ModelSettings, function_tool
from openai.types.shared import Reasoning


@function_tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"Rain in {city}."


settings = ModelSettings(reasoning=Reasoning(effort="low"), verbosity="low", parallel_tool_calls=True)
agent = Agent(name="Demanding", instructions="Answer.", model="picky/ok", tools=[get_weather], model_settings=settings)
'''
SWITCHES = (
    "takes_reasoning_effort",
    "takes_verbosity",
    "takes_strict",
    "takes_parallel_tool_calls",
    "takes_developer_role",
    "takes_several_system_messages",
)


@pytest.fixture(scope="module")
def demanding(gateway: GatewayServer, client: openai.OpenAI, faulty: FaultyServer) -> Iterator[str]:
    gateway.operator.put_upstream("picky", kind="other", base_url=faulty.base_url, models=[])
    write_source(gateway.agents / "Demanding", DEMANDING)
    eventually(lambda: "default/demanding" in [one.id for one in client.models.list()], True)
    eventually(lambda: _is_asked(faulty, client), True)
    yield "default/demanding"
    (gateway.agents / "Demanding" / "agent.py").unlink()
    (gateway.agents / "Demanding").rmdir()
    gateway.operator.delete_upstream("picky")
    eventually(lambda: "default/demanding" in [one.id for one in client.models.list()], False)


def _is_asked(faulty: FaultyServer, client: openai.OpenAI) -> bool:
    before = faulty.stats()["started"]
    ask_whole(client, "default/demanding", "Hi")
    return faulty.stats()["started"] > before


HISTORY: list[Any] = [
    {"role": "developer", "content": "Be brief."},
    {"role": "user", "content": "Hi"},
    {"role": "system", "content": "Be kind."},
]


def test_upstream_that_takes_everything_is_sent_everything(
    client: openai.OpenAI, faulty: FaultyServer, demanding: str
) -> None:
    ask_whole(client, demanding, HISTORY)

    body = faulty.last()["body"]
    assert (body["reasoning_effort"], body["verbosity"], body["parallel_tool_calls"]) == ("low", "low", True)
    assert body["tools"][0]["function"]["strict"] is True
    assert body["messages"] == [{"role": "system", "content": "Answer."}, *HISTORY]


def test_upstream_is_not_sent_what_it_cannot_take(
    gateway: GatewayServer, client: openai.OpenAI, faulty: FaultyServer, demanding: str
) -> None:
    def sent() -> Any:
        ask_whole(client, demanding, HISTORY)
        body = faulty.last()["body"]
        tool = body.pop("tools")[0]["function"]
        return body, "strict" in tool

    gateway.operator.put_upstream("picky", models=[], **dict.fromkeys(SWITCHES, False))

    eventually(
        sent,
        (
            {
                "model": "ok",
                "messages": [
                    {"role": "system", "content": "Answer.\n\nBe brief.\n\nBe kind."},
                    {"role": "user", "content": "Hi"},
                ],
                "stream": True,
                "stream_options": {"include_usage": True},
            },
            False,
        ),
    )


def test_upstreams_secret_is_its_bearer_token_and_the_callers_key_is_not_sent(
    gateway: GatewayServer, client: openai.OpenAI, faulty: FaultyServer, demanding: str
) -> None:
    def authorization() -> str | None:
        ask_whole(client, demanding, "Hi")
        header: str | None = faulty.last()["headers"].get("authorization")
        return header

    eventually(authorization, None)
    gateway.operator.put_upstream("picky", models=[], secret="sk-of-the-upstream")
    eventually(authorization, "Bearer sk-of-the-upstream")
    assert gateway.key not in str(faulty.last())
    assert "sk-of-the-upstream" not in "\n".join(gateway.errors)


def test_request_may_set_what_the_agent_has_set(client: openai.OpenAI, faulty: FaultyServer) -> None:
    ask_whole(client, "faulty/ok", "Hi", reasoning_effort="high", verbosity="high")

    body = faulty.last()["body"]
    assert (body["reasoning_effort"], body["verbosity"]) == ("high", "high")
