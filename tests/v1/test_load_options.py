"""What operators decide about how a module is loaded, in the admin, and how its runs follow."""

from collections.abc import Callable

import openai
import pytest

from tests.harness import DemoServer, GatewayServer, eventually
from tests.harness.asking import ask_whole

FACTORY = '''
from itertools import count

from agents import Agent, function_tool

numbers = count(1)


{kind} build_agent() -> Agent:
    number = next(numbers)

    @function_tool
    def which() -> str:
        """Which agent this is."""
        return f"agent {{number}}"

    return Agent(name="Numbered", tools=[which], tool_use_behavior="stop_on_first_tool")
'''
IN_MAIN = """
from agents import Agent, Runner


def main():
    agent = Agent(name="Hidden", instructions="Answer.")
    print(Runner.run_sync(agent, input("You: ")).final_output)


if __name__ == "__main__":
    main()
"""
OWN_CLIENT = """
from agents import Agent, set_default_openai_api, set_default_openai_client
from openai import AsyncOpenAI

set_default_openai_client(AsyncOpenAI(base_url={base_url!r}, api_key="my own"), use_for_tracing=False)
set_default_openai_api("chat_completions")
agent = Agent(name="Own", instructions="Answer.", model="of-my-own")
"""


def answer(server: GatewayServer, agent: str, asked: str) -> str:
    return ask_whole(server.openai(), agent, asked).content


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_factory_builds_an_agent_for_every_run(start_gateway: Callable[..., GatewayServer], kind: str) -> None:
    server = start_gateway(agents={"Numbered": FACTORY.format(kind=kind)})
    assert [answer(server, "default/numbered", "[[tool=which]]") for _ in range(2)] == ["agent 1"] * 2

    server.operator.set_agent("default/numbered", build_per_run=True)
    eventually(lambda: answer(server, "default/numbered", "[[tool=which]]") != "agent 1", True)

    first, second = (answer(server, "default/numbered", "[[tool=which]]") for _ in range(2))
    assert int(second.removeprefix("agent ")) == int(first.removeprefix("agent ")) + 1


def test_agent_that_main_builds_is_found_when_an_operator_lets_main_run(
    start_gateway: Callable[..., GatewayServer],
) -> None:
    server = start_gateway(agents={"Hidden": IN_MAIN})
    client = server.openai()
    with pytest.raises(openai.InternalServerError) as caught:
        ask_whole(client, "default/hidden", "Hi")
    assert caught.value.code == "agent_broken"

    server.operator.set_agent("default/hidden", dry_run=True)

    eventually(lambda: "default/hidden" in [one.id for one in client.models.list()], True)
    assert answer(server, "default/hidden", "[[say=Found.]]") == "Found."


def test_modules_own_client_is_used_only_when_an_operator_lets_it(
    start_gateway: Callable[..., GatewayServer], demo: DemoServer
) -> None:
    server = start_gateway(agents={"Own": OWN_CLIENT.format(base_url=demo.base_url)})
    assert answer(server, "default/own", "[[say=Hi.]]") == "Hi."
    assert server.wait_for_run(agent_id="default/own")["upstream"] == "llm"

    server.operator.set_agent("default/own", own_client=True)

    eventually(
        lambda: (answer(server, "default/own", "[[say=Hi.]]"), upstreams_of(server, "default/own"))[1], {"llm", ""}
    )


def upstreams_of(server: GatewayServer, agent: str) -> set[str]:
    """Those that runs of the agent have used; empty for a client of the module's own."""
    return {run["upstream"] for run in server.operator.runs(agent_id=agent)}
