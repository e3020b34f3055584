"""Modules that change the process as they are imported: they serve, and nobody else notices.

They are served together by a gateway of their own, between two copies of a witness: one is loaded before them, one
after. (Their folder is too deep for the gateway that serves the other fixtures.)
"""

import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from time import monotonic

import openai
import pytest

from tests.acceptance.conftest import FIXTURES
from tests.harness import GatewayServer, Template, eventually
from tests.harness.asking import Ask, ask_whole
from tests.harness.processes import ROOT

MODULES = FIXTURES / "shapes_side_effects" / "modules"
SERVED = [
    "AsksAtImport",
    "ChangesFolder",
    "EditsEnvironment",
    "EditsPath",
    "Exits",
    "Loops",
    "NeedsKey",
    "NestedLoops",
    "Prints",
    "RunsAtImport",
    "SdkDefaults",
    "Signals",
    "Streams",
    "StreamsClosed",
    "StreamsDetached",
    "Threads",
]
WITNESSES = ["AWitness", "ZWitness"]


def put(names: Iterable[str], agents: Path) -> Path:
    for name in names:
        shutil.copytree(MODULES / ("Witness" if name in WITNESSES else name), agents / name)
    return agents


@pytest.fixture(scope="module")
def troubled(tmp_path_factory: pytest.TempPathFactory, template: Template) -> Iterator[GatewayServer]:
    folder = tmp_path_factory.mktemp("side-effects")
    agents = put([*SERVED, *WITNESSES], folder / "agents")
    with GatewayServer(folder / "data", agents=agents, template=template) as server:
        yield server


Start = Callable[..., GatewayServer]


@pytest.fixture
def start_beside(tmp_path: Path, template: Template) -> Iterator[Start]:
    """A gateway over some of the modules and the witnesses: `start_beside("Name", ...)`."""
    with ExitStack() as stack:

        def start(*names: str) -> GatewayServer:
            agents = put([*names, *WITNESSES], tmp_path / "agents")
            return stack.enter_context(GatewayServer(tmp_path / "data", agents=agents, template=template))

        yield start


@pytest.fixture(scope="module")
def client(troubled: GatewayServer) -> openai.OpenAI:
    return troubled.openai()


@pytest.mark.parametrize(
    "name",
    [
        "AsksAtImport",
        "ChangesFolder",
        "EditsEnvironment",
        "EditsPath",
        "Exits",
        "Loops",
        "NeedsKey",
        "NestedLoops",
        "Prints",
        "RunsAtImport",
        "SdkDefaults",
        "Signals",
        "Streams",
        "StreamsClosed",
        "StreamsDetached",
        "Threads",
    ],
)
def test_module_answers(client: openai.OpenAI, ask: Ask, name: str) -> None:
    told = ask(client, f"default/{name.lower()}", "[[no-tools]] Good morning")

    assert "You are unharmed." in told.content


def test_variables_of_an_env_file_are_there_when_a_tool_runs(client: openai.OpenAI, ask: Ask) -> None:
    told = ask(client, "default/editsenvironment", "[[tool=mood]]")

    assert "The tool mood returned: serene" in told.content


@pytest.mark.parametrize("witness", WITNESSES)
@pytest.mark.parametrize("tool", ["look_within", "look_within_in_a_thread"])
def test_nested_runs_of_others_are_routed_as_ever(client: openai.OpenAI, ask: Ask, witness: str, tool: str) -> None:
    told = ask(client, f"default/{witness.lower()}", f'[[tool={tool}]] [[args={{"question": "Who?"}}]]')

    assert f"The tool {tool} returned: This is the built-in demo upstream" in told.content
    assert "My instructions are: “You are within.”" in told.content


@pytest.mark.parametrize("witness", WITNESSES)
def test_working_folder_of_others_is_the_gateways(client: openai.OpenAI, ask: Ask, witness: str) -> None:
    told = ask(client, f"default/{witness.lower()}", "[[tool=look_around]]")

    assert f"The tool look_around returned: {ROOT}" in told.content


def test_log_is_what_the_operator_configured(client: openai.OpenAI, troubled: GatewayServer) -> None:
    ask_whole(client, "default/zwitness", "Hello", extra_headers={"x-request-id": "as-configured"})

    eventually(lambda: len(troubled.log(event="run_finished", request_id="as-configured")), 1)
    assert [line for line in troubled.errors if not line.startswith("{")] == []
    assert troubled.log(level="debug") == []


@pytest.mark.parametrize("name", ["Logs", "Globals"])
def test_what_all_share_is_as_it_was(start_beside: Start, name: str) -> None:
    client = start_beside(name).openai()

    for witness in WITNESSES:
        for tool in ("look_within", "look_within_in_a_thread"):
            told = ask_whole(client, f"default/{witness.lower()}", f'[[tool={tool}]] [[args={{"question": "Who?"}}]]')
            assert f"The tool {tool} returned: This is the built-in demo upstream" in told.content


def test_module_that_writes_beside_itself_whenever_it_is_imported_is_left_alone_for_longer_and_longer(
    start_beside: Start,
) -> None:
    server = start_beside("WritesBeside")

    server.wait_for_log(event="agent_writes_into_its_folder", agent="default/writesbeside")
    loads = len(server.log(event="agent_loaded", agent="default/writesbeside"))
    began = monotonic()
    eventually(lambda: len(server.log(event="agent_loaded", agent="default/writesbeside")) > loads + 1, True, within=10)

    assert monotonic() - began > 2  # rests of one and of two seconds; without them it takes a fifth of one
    assert ask_whole(server.openai(), "default/writesbeside", "[[say=Here.]]").content == "Here."


def test_gateway_ends_when_it_is_asked_to(start_beside: Start) -> None:
    server = start_beside("Threads", "Signals")

    server.stop()  # fails when the process does not end

    assert not server.is_running
