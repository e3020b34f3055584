"""sys.exit() in an agent's code ends its run, not the gateway. On a gateway of their own: it may well die of them."""

from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest

from tests.conftest import write_source
from tests.harness import GatewayServer, Template
from tests.harness.asking import Ask, ask_whole

HEAD = "import sys\nfrom agents import Agent, function_tool, input_guardrail\n"
EXITING = {
    "AsyncTool": """
@function_tool
async def leave(why: str) -> str:
    sys.exit(3)


agent = Agent(name="Exits", tools=[leave])
""",
    "SyncTool": """
@function_tool
def leave(why: str) -> str:
    raise SystemExit("gone")


agent = Agent(name="Exits", tools=[leave])
""",
    "Instructions": """
def instructions(wrapper, agent):
    sys.exit(3)


agent = Agent(name="Exits", instructions=instructions)
""",
    "Guardrail": """
@input_guardrail
async def check(context, agent, input):
    sys.exit(3)


agent = Agent(name="Exits", input_guardrails=[check])
""",
    "Workflow": """
async def run_workflow(text: str) -> str:
    sys.exit(3)
""",
}


@pytest.fixture(scope="module")
def exiting(tmp_path_factory: pytest.TempPathFactory, template: Template) -> Iterator[Callable[[], GatewayServer]]:
    """The gateway, started again when a test before has ended it."""
    folder = tmp_path_factory.mktemp("exiting")
    for name, source in EXITING.items():
        write_source(folder / "agents" / name, HEAD + source)
    write_source(folder / "agents" / "Plain", 'from agents import Agent\n\nagent = Agent(name="Plain")\n')
    server = GatewayServer(folder / "data", agents=folder / "agents", template=template)

    def running() -> GatewayServer:
        if not server.is_running:
            server.start()
        return server

    yield running
    if server.is_running:
        server.stop()


@pytest.mark.parametrize("agent", [name.lower() for name in EXITING])
def test_exit_ends_the_run_alone(exiting: Callable[[], GatewayServer], ask: Ask, agent: str) -> None:
    gateway = exiting()
    client = gateway.openai()
    messages: Any = "[[tool=leave]]" if agent.endswith("tool") else "Hi"

    with pytest.raises(openai.APIError) as caught:
        ask(client, f"default/{agent}", messages)

    assert ask_whole(client, "default/plain", "[[say=Alive.]]").content == "Alive."
    assert caught.value.body == {
        "message": f"The code of the agent 'default/{agent}' called sys.exit().",
        "type": "server_error",
        "param": None,
        "code": "agent_error",
    }
