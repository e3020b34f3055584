"""The owner of the drop-ins' MCP servers, on a loop of the test's own and with real server processes."""

import asyncio
import gc
import os
import signal
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from agents import Agent, Runner
from agents.mcp import MCPServer, MCPServerStdio
from agents.testing import ModelStep, ScriptedModel, assistant_message, function_call
from django.conf import LazySettings

from apps.catalog import loader
from apps.catalog.options import LoadOptions
from apps.catalog.registry import Generation
from apps.core.errors import Unavailable
from apps.execution import containment, mcp_servers
from apps.execution.mcp_servers import Standing, standings

SCRIPT = Path(__file__).parents[1] / "fakes" / "mcp_server.py"
DECLARED = f"""
from agents import Agent
from agents.mcp import MCPServerStdio

server = MCPServerStdio(name="fake", params={{"command": "python", "args": [{str(SCRIPT)!r}]}})
agent = Agent(name="Declares", mcp_servers=[server])
"""
Load = Callable[..., Generation]


def load_version(folder: Path, source: str = DECLARED, **options: bool) -> Generation:
    """Serves until it is retired."""
    folder.mkdir(exist_ok=True)
    (folder / "agent.py").write_text(source)
    loaded = loader.load(f"default/{folder.name.lower()}", folder, LoadOptions(**options))
    assert loaded.package is not None, loaded.problems
    (published,) = loaded.published
    generation = Generation(agent_id="default/x", digest="", published=published, package=loaded.package)
    loaded.package.release()
    return generation


@pytest.fixture
def load(tmp_path: Path, settings: LazySettings) -> Iterator[Load]:
    """Loads a module as a new version, which is retired at the end."""
    settings.GATEWAY_AGENT_DISCOVERY_PATH = [tmp_path]
    generations: list[Generation] = []

    def load(source: str = DECLARED, name: str = "Declares", **options: bool) -> Generation:
        generations.append(load_version(tmp_path / name, source, **options))
        return generations[-1]

    yield load
    for generation in generations:
        generation.retire()


@pytest.fixture(autouse=True)
async def _closed() -> AsyncIterator[None]:
    yield
    await mcp_servers.close()
    assert mcp_servers._connections == {}


def server_of(generation: Generation) -> Any:
    (server,) = generation.export.agents[0].mcp_servers
    return server


async def call(server: MCPServer, tool: str, **arguments: Any) -> str:
    result = await server.call_tool(tool, arguments)
    (content,) = result.content
    return str(content.text)  # type: ignore[union-attr]


async def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


async def test_run_that_is_cancelled_while_connecting_leaves_the_attempt_to_the_others(load: Load) -> None:
    generation = load()
    with generation.hold():
        first = asyncio.create_task(mcp_servers.connect(generation))
        second = asyncio.create_task(mcp_servers.connect(generation))
        await asyncio.sleep(0)
        first.cancel()

        await second

    assert first.cancelled()
    assert standings(generation) == (Standing("fake", connected=True, reason=""),)


async def test_connection_is_closed_when_the_last_run_of_a_retired_version_ends(load: Load) -> None:
    generation = load()
    with generation.hold():
        await mcp_servers.connect(generation)
        pid = int(await call(server_of(generation), "pid"))
        threading.Thread(target=generation.retire).start()  # as discovery does
        await until(lambda: generation._retired)

        assert await call(server_of(generation), "pid") == str(pid)

    await until(lambda: is_gone(pid))
    await until(lambda: mcp_servers._connections == {})
    assert server_of(generation).session is None


async def test_run_that_begins_on_a_retired_version_has_its_servers(load: Load) -> None:
    """It resolved the version a moment before the reload."""
    generation = load()
    with generation.hold():
        await mcp_servers.connect(generation)
        first = await call(server_of(generation), "pid")
        generation.retire()
    with generation.hold():  # before the loop has come to closing
        await mcp_servers.connect(generation)
        assert await call(server_of(generation), "pid") == first
    await until(lambda: is_gone(int(first)))

    with generation.hold():
        await mcp_servers.connect(generation)
        second = await call(server_of(generation), "pid")
    await until(lambda: is_gone(int(second)))

    assert second != first


async def test_run_that_begins_while_its_servers_are_closed_waits_and_has_new_ones(load: Load) -> None:
    generation = load()
    with generation.hold():
        await mcp_servers.connect(generation)
        first = await call(server_of(generation), "pid")
        generation.retire()
    (connection,) = mcp_servers._connections.values()
    await until(connection._changing.locked)

    with generation.hold():
        await mcp_servers.connect(generation)
        second = await call(server_of(generation), "pid")
    await until(lambda: is_gone(int(second)))

    assert second != first


async def test_retired_version_is_freed_with_its_servers(tmp_path: Path) -> None:
    generation = load_version(tmp_path / "Declares")
    with generation.hold():
        await mcp_servers.connect(generation)
    server = weakref.ref(server_of(generation))
    pid = int(await call(server_of(generation), "pid"))
    generation.retire()
    await until(lambda: is_gone(pid))
    await until(lambda: mcp_servers._connections == {})

    del generation
    gc.collect()

    assert server() is None


PER_RUN = f"""
from agents import Agent
from agents.mcp import MCPServerStdio

PARAMS = {{"command": "python", "args": [{str(SCRIPT)!r}]}}
shared = MCPServerStdio(name="shared", params=PARAMS)


async def create_agent() -> Agent:
    given, connected = (MCPServerStdio(name=name, params=PARAMS) for name in ("given", "connected"))
    await connected.connect()
    return Agent(name="Made", mcp_servers=[shared, given, connected])
"""


async def test_servers_of_an_agent_built_for_one_run_are_closed_with_it(tmp_path: Path, load: Load) -> None:
    generation = load(PER_RUN, build_per_run=True)
    pids: list[list[int]] = []
    for _ in range(2):
        with generation.hold():
            await mcp_servers.connect(generation)
            agent = await generation.export.per_run()  # type: ignore[misc]
            async with mcp_servers.of_run(agent, generation):
                pids.append([int(await call(server, "pid")) for server in agent.mcp_servers])
        await until(lambda: all(map(is_gone, pids[-1][1:])))

    assert not is_gone(pids[0][0])
    assert pids[0][0] == pids[1][0]
    assert len({*pids[0], *pids[1]}) == 5
    assert Standing("shared", connected=True, reason="") in standings(generation)


async def test_server_that_two_drop_ins_share_is_closed_with_the_second(load: Load) -> None:
    """An object of an installed package, imported by both."""
    shared = MCPServerStdio(name="shared", params={"command": "python", "args": [str(SCRIPT)]})
    source = "from agents import Agent\n\nagent = Agent(name='Shares')\n"
    first, second = load(source, "First"), load(source, "Second")
    for generation in (first, second):
        generation.export.agents[0].mcp_servers.append(shared)
        with generation.hold():
            await mcp_servers.connect(generation)
    pid = int(await call(shared, "pid"))

    first.retire()
    await until(lambda: standings(first) == ())
    assert int(await call(shared, "pid")) == pid

    second.retire()
    await until(lambda: is_gone(pid))


async def test_server_that_dies_between_two_turns_is_connected_again_in_the_same_run(load: Load) -> None:
    generation = load()
    server = server_of(generation)
    with generation.hold():
        await mcp_servers.connect(generation)
        before = int(await call(server, "pid"))

        def kill(_: Any) -> None:
            os.kill(before, signal.SIGKILL)

        model = ScriptedModel(
            [
                ModelStep([function_call("pid", "{}", call_id="1")]),
                ModelStep([function_call("crash", '{"path": "/dev/null"}', call_id="2")]),
                ModelStep([function_call("pid", "{}", call_id="3")]),
                ModelStep([assistant_message("done")]),
            ]
        )
        result = await Runner.run(Agent(name="Runs", model=model, mcp_servers=[server]), "Hi")

    outputs = [item.output for item in result.new_items if item.type == "tool_call_output_item"]
    assert outputs[0]["text"] == str(before)
    assert "error" in str(outputs[1])
    assert outputs[2]["text"] != str(before)


async def test_server_that_is_busy_with_a_call_is_left_alone(load: Load) -> None:
    generation = load()
    server = server_of(generation)
    with generation.hold():
        await mcp_servers.connect(generation)
        before = await call(server, "pid")
        working = asyncio.create_task(call(server, "block", seconds=4))
        await asyncio.sleep(mcp_servers._FRESH + 0.1)  # the next run looks at it

        await mcp_servers.connect(generation)  # after the ping's patience

        assert not working.done()
        assert await working == "done"
        assert await call(server, "pid") == before


async def test_workflows_servers_are_not_connected_before_they_are_asked(load: Load) -> None:
    generation = load(
        DECLARED + "\n\nasync def run_workflow(text: str) -> str:\n    return text\n\n\n__gateway__ = run_workflow\n"
    )
    (server,) = generation.export.agents[0].mcp_servers
    with generation.hold():
        await mcp_servers.connect(generation)
        assert server.session is None  # type: ignore[attr-defined]

        assert "add" in [tool.name for tool in await server.list_tools()]
        assert standings(generation) == (Standing("fake", connected=True, reason=""),)


async def test_server_that_the_modules_code_connected_is_left_alone_until_it_dies(load: Load) -> None:
    generation = load()
    server = server_of(generation)
    await server.connect()
    theirs = server.session
    with generation.hold():
        await mcp_servers.connect(generation)
        assert server.session is theirs
        first = int(await call(server, "pid"))

        os.kill(first, signal.SIGKILL)
        await until(lambda: is_gone(first))
        second = int(await call_after_listing(server))
        assert second != first
    generation.retire()
    await until(lambda: is_gone(second))


async def call_after_listing(server: MCPServer) -> str:
    await server.list_tools()
    return await call(server, "pid")


async def test_what_the_modules_code_left_connected_is_closed_with_the_version(load: Load) -> None:
    generation = load()
    server = server_of(generation)
    with generation.hold():
        await server.connect()
        await mcp_servers.connect(generation)
        pid = int(await call(server, "pid"))

    generation.retire()

    await until(lambda: is_gone(pid))


async def test_failure_is_kept_for_a_pause_and_then_tried_again(load: Load, tmp_path: Path) -> None:
    script = tmp_path / "late.py"
    generation = load(DECLARED.replace(str(SCRIPT), str(script)))
    with generation.hold():
        with pytest.raises(Unavailable) as caught:
            await mcp_servers.connect(generation)
        assert (caught.value.code, caught.value.retry_after) == ("mcp_unavailable", 1)
        (standing,) = standings(generation)
        assert (standing.server, standing.connected) == ("fake", False)
        assert standing.reason.startswith("MCPError: ")
        script.write_text(SCRIPT.read_text())
        with pytest.raises(Unavailable):
            await mcp_servers.connect(generation)

        await asyncio.sleep(mcp_servers._SHORTEST_PAUSE)
        await mcp_servers.connect(generation)

    assert standings(generation) == (Standing("fake", connected=True, reason=""),)


async def test_credentials_in_a_url_are_shown_to_nobody(load: Load) -> None:
    url = "http://ann:hidden@127.0.0.1:9/sse?token=hidden"
    imports = "from agents import Agent\nfrom agents.mcp import MCPServerSse\n\n"
    generation = load(f"{imports}agent = Agent(name='Remote', mcp_servers=[MCPServerSse(params={{'url': {url!r}}})])\n")
    with generation.hold(), pytest.raises(Unavailable) as caught:
        await mcp_servers.connect(generation)

    (standing,) = standings(generation)
    assert standing.server == "sse: http://127.0.0.1:9/sse"
    assert "hidden" not in caught.value.message + standing.reason


OWN_CLASS = """
import sys

from agents import Agent
from agents.mcp import MCPServer


class Own(MCPServer):
    name = "own"
    log = []

    async def connect(self):
        {connect}

    async def cleanup(self):
        self.log.append("closed")

    async def list_tools(self, run_context=None, agent=None):
        return []

    async def call_tool(self, tool_name, arguments, meta=None):
        raise NotImplementedError

    async def list_prompts(self):
        raise NotImplementedError

    async def get_prompt(self, name, arguments=None):
        raise NotImplementedError


agent = Agent(name="Own", mcp_servers=[Own()])
"""


async def test_class_of_the_modules_own_is_connected_once(load: Load) -> None:
    generation = load(OWN_CLASS.format(connect='self.log.append("connected")'))
    server = server_of(generation)
    for _ in range(3):
        with generation.hold():
            await mcp_servers.connect(generation)
            await server.list_tools()
    generation.retire()

    await until(lambda: mcp_servers._connections == {})
    assert server.log == ["connected", "closed"]


async def test_class_of_the_modules_own_that_exits_does_not_end_the_process(load: Load) -> None:
    containment.contain(asyncio.get_running_loop())
    generation = load(OWN_CLASS.format(connect="sys.exit(3)"))
    with generation.hold(), pytest.raises(containment.Exited):
        await mcp_servers.connect(generation)

    assert server_of(generation).log == ["closed"]


async def test_on_another_loop_a_server_is_left_as_the_sdk_has_it(load: Load) -> None:
    generation = load()
    server = server_of(generation)
    with generation.hold():
        await mcp_servers.connect(generation)
        (connection,) = mcp_servers._connections.values()
        connection._fresh_until = 0.0

        await asyncio.to_thread(lambda: asyncio.run(connection.ready()))

        assert connection._fresh_until == 0.0
        assert await call(server, "add", a=1, b=2) == "3"
