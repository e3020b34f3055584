"""MCP servers that a module declares: connected once, shared, connected again when they die, closed in the end."""

import json
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.conftest import write_source
from tests.harness import GatewayServer, Template, eventually
from tests.harness.asking import Ask, ask_whole
from tests.harness.process_table import children, is_alive
from tests.harness.processes import ServerProcess, clean_environment
from tests.v1.test_cancel import leave, send

FIXTURES = Path(__file__).parents[1] / "fixtures" / "dropin_agents"
SCRIPT = Path(__file__).parents[1] / "fakes" / "mcp_server.py"

STDIO = """
from agents import Agent
from agents.mcp import MCPServerStdio

server = MCPServerStdio(name="{name}", params={{"command": {command!r}, "args": {args!r}}}, {options})
agent = Agent(name="{name}", mcp_servers=[server])
"""
PLAIN = 'from agents import Agent\n\nagent = Agent(name="Plain")\n'


class McpServer(ServerProcess):
    """tests/fakes/mcp_server.py over HTTP."""

    announcement = "at "

    def __init__(self, transport: str, port: int = 0) -> None:
        super().__init__([str(SCRIPT), "--transport", transport, "--port", str(port)], clean_environment())

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2].partition("/")[0])


@pytest.fixture(scope="module")
def remotes() -> Iterator[dict[str, McpServer]]:
    """By the agents that use them. A test may put another one in a server's place, which is then stopped instead."""
    servers = {"mcphttp": McpServer("http"), "mcpsse": McpServer("sse")}
    for server in servers.values():
        server.start()
    yield servers
    for server in servers.values():
        server.stop()


@pytest.fixture(scope="module")
def gateway(
    tmp_path_factory: pytest.TempPathFactory, template: Template, remotes: dict[str, McpServer]
) -> Iterator[GatewayServer]:
    """Over the Mcp fixtures; their stdio server has the tools of the fake."""
    folder = tmp_path_factory.mktemp("mcp")
    for fixture in FIXTURES.glob("Mcp*"):
        shutil.copytree(fixture, folder / "agents" / fixture.name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(SCRIPT, folder / "agents" / "McpStdio" / "server.py")
    urls = {"MCP_HTTP_URL": remotes["mcphttp"].url, "MCP_SSE_URL": remotes["mcpsse"].url}
    with GatewayServer(
        folder / "data", agents=folder / "agents", template=template, GATEWAY_MCP_CONNECT_TIMEOUT="60", **urls
    ) as server:
        write_source(server.agents / "Plain", PLAIN)
        eventually(lambda: "default/plain" in [one.id for one in server.openai().models.list()], True)
        yield server


@pytest.fixture
def client(gateway: GatewayServer) -> openai.OpenAI:
    return gateway.openai()


def call(tool: str, **arguments: Any) -> str:
    return f"[[tool={tool}]] [[args={json.dumps(arguments)}]]"


def returned(content: str, tool: str) -> str:
    """What the demo was told that the tool returned."""
    found = re.search(rf"The tool {tool} returned: (.*)", content)
    assert found, content
    return found[1]


def pid_of(gateway: GatewayServer, agent: str) -> int:
    """The process of the agent's MCP server, as a run of the agent finds it."""
    return int(returned(ask_whole(gateway.openai(), agent, call("pid")).content, "pid"))


def server_processes(gateway: GatewayServer, part: str = "server.py") -> set[int]:
    """The gateway's children whose command line has this part."""
    return children(gateway.pid, part)


def told(client: openai.OpenAI, agent: str, asked: str = "Hi") -> tuple[int, Any, str | None]:
    """The failure that a request ends with: status, body and Retry-After."""
    with pytest.raises(openai.APIStatusError) as caught:
        ask_whole(client, agent, asked)
    return caught.value.status_code, caught.value.body, caught.value.response.headers.get("retry-after")


def unavailable(name: str) -> dict[str, Any]:
    return {
        "message": f"The MCP server '{name}', which this agent takes tools from, cannot be reached. Try again in a "
        "moment; if it lasts, see `mcp_server_unavailable` in the gateway's log.",
        "type": "server_error",
        "param": None,
        "code": "mcp_unavailable",
    }


# --- modules of every shape ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "agent", ["mcpstdio", "mcphttp", "mcpsse", "mcpshared", "mcpfactory", "mcpworkflow", "mcpworkflowouter"]
)
def test_tools_of_a_declared_server_are_called(client: openai.OpenAI, ask: Ask, agent: str) -> None:
    content = ask(client, f"default/{agent}", call("add", a=20, b=22)).content

    assert returned(content, "add") == "42"


def test_stdio_server_starts_in_the_agents_folder_on_the_gateways_python(gateway: GatewayServer) -> None:
    content = ask_whole(gateway.openai(), "default/mcpstdio", call("where")).content

    assert returned(content, "where") == f"{gateway.agents / 'McpStdio'} {Path(sys.executable).parent}"


def test_prefixes_filters_and_structured_content_stay_the_modules(client: openai.OpenAI, ask: Ask) -> None:
    left = ask(client, "default/mcpfilter", call("mcp_left__add", a=1, b=2)).content
    right = ask(client, "default/mcpfilter", call("mcp_right__add", a=1, b=2)).content
    filtered = ask(client, "default/mcpfilter", call("mcp_left__pid")).content

    assert returned(left, "mcp_left__add") == "3"
    assert returned(right, "mcp_right__add") == '{"result": 3}'
    assert "not found" in returned(filtered, "mcp_left__pid")


def test_server_that_several_agents_declare_is_connected_once(gateway: GatewayServer) -> None:
    client = gateway.openai()
    entry = pid_of(gateway, "default/mcpshared")
    handed_over = ask_whole(client, "default/mcpshared", "[[tool=transfer_to_teller]] [[tool=pid]]").content
    as_tool = ask_whole(client, "default/mcpshared", call("ask_counter", input=call("pid"))).content

    assert int(returned(handed_over, "pid")) == entry
    assert str(entry) in as_tool


def test_server_of_an_agent_that_a_tool_runs_is_connected(client: openai.OpenAI, ask: Ask) -> None:
    content = ask(client, "default/mcpbyhand", call("calculate", task=call("add", a=20, b=22))).content

    assert "The tool add returned: 42" in content


@pytest.mark.parametrize("agent", ["mcpworkflow", "mcpworkflowouter"])
def test_server_that_a_workflow_opens_is_the_workflows_own(gateway: GatewayServer, agent: str) -> None:
    first, second = pid_of(gateway, f"default/{agent}"), pid_of(gateway, f"default/{agent}")

    assert first != second
    eventually(lambda: {first, second} & server_processes(gateway), set())


def test_servers_of_an_agent_that_every_run_builds_are_that_runs_own(gateway: GatewayServer) -> None:
    source = (FIXTURES / "McpFactory" / "agent.py").read_text().replace('parents[1] / "McpStdio"', "parent")
    shutil.copytree(FIXTURES / "McpStdio", gateway.agents / "PerRun")
    write_source(gateway.agents / "PerRun", source)
    eventually(lambda: "default/perrun" in [one.id for one in gateway.openai().models.list()], True)
    before = pid_of(gateway, "default/perrun")

    gateway.operator.set_agent("default/perrun", build_per_run=True)

    eventually(lambda: pid_of(gateway, "default/perrun") != pid_of(gateway, "default/perrun"), True)
    eventually(lambda: len(server_processes(gateway, "PerRun/")), 0)
    assert not is_alive(before)


# --- one owner -------------------------------------------------------------------------------------------------------


def test_first_runs_at_once_share_one_connection(start_gateway: Callable[..., GatewayServer]) -> None:
    gateway = start_gateway({"Many": STDIO.format(name="many", command="python", args=[str(SCRIPT)], options="")})

    with ThreadPoolExecutor(12) as pool:
        pids = set(pool.map(lambda _: pid_of(gateway, "default/many"), range(24)))

    assert pids == server_processes(gateway, SCRIPT.name)
    assert len(pids) == 1


@pytest.mark.parametrize("agent", ["mcpstdio", "mcphttp", "mcpsse"])
@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
def test_leaving_in_mid_call_leaves_the_connection_to_the_others(
    gateway: GatewayServer, tmp_path: Path, agent: str, stream: bool
) -> None:
    before = pid_of(gateway, f"default/{agent}")
    path = tmp_path / "go"
    connection = send(gateway, f"default/{agent}", call("linger", path=str(path)), f"{agent}-{stream}", stream=stream)
    eventually(Path(f"{path}.started").exists, True)

    leave(connection)

    assert gateway.wait_for_run(request_id=f"{agent}-{stream}")["outcome"] == "cancelled"
    assert pid_of(gateway, f"default/{agent}") == before


@pytest.mark.parametrize("agent", ["mcpstdio", "mcphttp", "mcpsse"])
def test_leaving_in_mid_call_does_not_disturb_a_call_on_the_same_server(
    gateway: GatewayServer, tmp_path: Path, agent: str
) -> None:
    stays, leaves = tmp_path / "stays", tmp_path / "leaves"
    with ThreadPoolExecutor(1) as pool:
        staying = pool.submit(ask_whole, gateway.openai(), f"default/{agent}", call("linger", path=str(stays)))
        connection = send(gateway, f"default/{agent}", call("linger", path=str(leaves)), f"leaves-{agent}", stream=True)
        eventually(lambda: Path(f"{stays}.started").exists() and Path(f"{leaves}.started").exists(), True)

        leave(connection)
        gateway.wait_for_run(request_id=f"leaves-{agent}")
        meanwhile = pid_of(gateway, f"default/{agent}")
        stays.touch()

        assert returned(staying.result().content, "linger") == f"process {meanwhile}"


# --- servers that die ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("agent", ["mcpstdio", "mcpshared"])
def test_killed_server_is_connected_again(gateway: GatewayServer, ask: Ask, agent: str) -> None:
    """McpShared caches its tools, so that listing them does not reach the server."""
    before = pid_of(gateway, f"default/{agent}")
    os.kill(before, signal.SIGKILL)
    eventually(lambda: is_alive(before), False)

    ask(gateway.openai(), f"default/{agent}", call("pid"))

    after = pid_of(gateway, f"default/{agent}")
    assert after != before
    assert before not in server_processes(gateway)


@pytest.mark.parametrize("agent", ["mcphttp", "mcpsse"])
def test_restarted_remote_server_is_connected_again(
    gateway: GatewayServer, remotes: dict[str, McpServer], agent: str
) -> None:
    pid_of(gateway, f"default/{agent}")
    port = remotes[agent].port
    remotes[agent].stop(signal.SIGKILL)
    assert told(gateway.openai(), f"default/{agent}")[0] == 503

    remotes[agent] = McpServer(agent.removeprefix("mcp"), port)
    remotes[agent].start()

    eventually(lambda: said_pid(gateway, f"default/{agent}"), remotes[agent].pid)


def said_pid(gateway: GatewayServer, agent: str) -> int | None:
    try:
        return pid_of(gateway, agent)
    except openai.APIStatusError:
        return None


@pytest.mark.parametrize("agent", ["mcpstdio", "mcpshared"])
def test_call_under_way_when_the_server_dies_is_told_to_the_model_and_not_repeated(
    gateway: GatewayServer, ask: Ask, tmp_path: Path, agent: str
) -> None:
    before, path = pid_of(gateway, f"default/{agent}"), tmp_path / "calls"

    content = ask(gateway.openai(), f"default/{agent}", call("crash", path=str(path))).content

    assert path.read_text() == "called\n"
    assert "error" in returned(content, "crash")
    assert pid_of(gateway, f"default/{agent}") != before


def test_server_that_hangs_is_replaced(gateway: GatewayServer) -> None:
    before = pid_of(gateway, "default/mcpstdio")
    os.kill(before, signal.SIGSTOP)

    eventually(lambda: said_pid(gateway, "default/mcpstdio") not in (None, before), True, within=30)

    eventually(lambda: is_alive(before), False)


# --- servers that cannot be had --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "args"),
    [("no-such-command-anywhere", []), ("python", ["-c", "raise SystemExit(1)"]), ("python", ["no_such_file.py"])],
    ids=["no command", "ends at once", "no file"],
)
def test_server_that_does_not_start_fails_the_run_before_its_first_event(
    gateway: GatewayServer, ask: Ask, command: str, args: list[str], request: pytest.FixtureRequest
) -> None:
    name = "".join(word for word in request.node.callspec.id.title() if word.isalpha())
    write_source(gateway.agents / name, STDIO.format(name=name, command=command, args=args, options=""))
    eventually(lambda: f"default/{name}".lower() in [one.id for one in gateway.openai().models.list()], True)

    with pytest.raises(openai.APIStatusError) as caught:
        ask(gateway.openai(), f"default/{name}".lower(), "Hi")

    assert (caught.value.status_code, caught.value.body) == (503, unavailable(name))
    assert caught.value.response.headers["retry-after"] == "1"
    gateway.wait_for_log(event="mcp_server_unavailable", server=name)
    assert ask_whole(gateway.openai(), "default/plain", "[[say=Fine.]]").content == "Fine."
    assert server_processes(gateway, "no_such_file.py") == set()


def test_server_that_never_answers_is_given_up_in_time(start_gateway: Callable[..., GatewayServer]) -> None:
    source = STDIO.format(name="Mute", command="python", args=["-c", "import time; time.sleep(99)"], options="")
    gateway = start_gateway({"Mute": source, "Plain": PLAIN}, GATEWAY_MCP_CONNECT_TIMEOUT="8")
    client = gateway.openai()

    with ThreadPoolExecutor(1) as pool:
        began = time.monotonic()
        waiting = pool.submit(told, client, "default/mute")
        eventually(lambda: len(server_processes(gateway, "sleep(99)")), 1)
        assert ask_whole(client, "default/plain", "[[say=Fine.]]").content == "Fine."
        assert not waiting.done()
        assert waiting.result()[:2] == (503, unavailable("Mute"))
        assert time.monotonic() - began < 20  # the limit is 8 s here
    eventually(lambda: server_processes(gateway, "sleep(99)"), set(), within=10)


def test_server_that_comes_back_is_found_without_a_reload(gateway: GatewayServer, tmp_path: Path) -> None:
    script = tmp_path / "late.py"
    write_source(gateway.agents / "Late", STDIO.format(name="Late", command="python", args=[str(script)], options=""))
    eventually(lambda: "default/late" in [one.id for one in gateway.openai().models.list()], True)
    assert told(gateway.openai(), "default/late")[0] == 503

    shutil.copy(SCRIPT, script)

    eventually(lambda: said_pid(gateway, "default/late") is not None, True, within=20)


# --- reload and the end ----------------------------------------------------------------------------------------------


def versioned(version: str) -> str:
    return SCRIPT.read_text().replace('VERSION = "one"', f'VERSION = "{version}"')


def version_of(gateway: GatewayServer, agent: str) -> str:
    return returned(ask_whole(gateway.openai(), agent, call("version")).content, "version")


@pytest.fixture
def reloading(start_gateway: Callable[..., GatewayServer]) -> GatewayServer:
    source = STDIO.format(name="Own", command="python", args=["server.py"], options="")
    gateway = start_gateway({"Own": source, "Plain": PLAIN}, GATEWAY_MCP_CONNECT_TIMEOUT="60")
    write_source(gateway.agents / "Own", versioned("one"), name="server.py")
    eventually(lambda: version_of(gateway, "default/own"), "one", within=20)
    return gateway


def test_reload_brings_a_new_server_and_runs_under_way_keep_the_old_one(
    reloading: GatewayServer, tmp_path: Path
) -> None:
    path, old = tmp_path / "go", pid_of(reloading, "default/own")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ask_whole, reloading.openai(), "default/own", call("linger", path=str(path)))
        eventually(Path(f"{path}.started").exists, True)

        write_source(reloading.agents / "Own", versioned("two"), name="server.py")
        eventually(lambda: version_of(reloading, "default/own"), "two", within=20)
        new = pid_of(reloading, "default/own")

        assert server_processes(reloading) == {old, new}
        path.touch()
        assert returned(waiting.result().content, "linger") == f"process {old}"
    eventually(lambda: server_processes(reloading), {new})


def test_reloads_leave_one_process(reloading: GatewayServer) -> None:
    for number in range(4):
        write_source(reloading.agents / "Own", versioned(f"v{number}"), name="server.py")
        eventually(lambda: version_of(reloading, "default/own"), f"v{number}", within=20)

    eventually(lambda: server_processes(reloading), {pid_of(reloading, "default/own")})
    shutil.rmtree(reloading.agents / "Own")
    eventually(lambda: server_processes(reloading), set())


def test_stopped_gateway_leaves_no_server_behind(reloading: GatewayServer) -> None:
    pid = pid_of(reloading, "default/own")

    reloading.stop()

    assert not is_alive(pid)


def test_killed_gateway_leaves_no_server_behind(reloading: GatewayServer) -> None:
    pid = pid_of(reloading, "default/own")

    reloading.stop(signal.SIGKILL)

    eventually(lambda: is_alive(pid), False, within=10)
