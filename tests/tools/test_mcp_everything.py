"""The reference server, which nobody here wrote; its version is pinned in tests/node/mcp/package.json."""

import asyncio
import json
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from apps.tools.mcp.server import Server
from apps.tools.models import Transport
from tests.harness.processes import clean_environment
from tests.node.packages import MCP, needed
from tests.tools.mcp_parts import Seen, ask, connected, server, soon


@pytest.fixture(scope="module")
def script() -> Path:
    """What node runs."""
    return needed(MCP) / "@modelcontextprotocol/server-everything/dist/index.js"


class Remote:
    """The server over HTTP, on a port that it may be started on again."""

    def __init__(self, script: Path, kind: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._command = ["node", str(script), kind]
        self.url = f"http://127.0.0.1:{self.port}/{'sse' if kind == 'sse' else 'mcp'}"

    def start(self) -> None:
        out = subprocess.DEVNULL
        self._process = subprocess.Popen(
            self._command, env=clean_environment(PORT=str(self.port)), stdout=out, stderr=out
        )
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise AssertionError("the server did not start")

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(10)


@pytest.fixture(scope="module")
def remotes(script: Path) -> Iterator[dict[str, Remote]]:
    running = {"http": Remote(script, "streamableHttp"), "sse": Remote(script, "sse")}
    for one in running.values():
        one.start()
    yield running
    for one in running.values():
        one.kill()


@pytest.fixture(params=["stdio", "http", "sse"])
def everything(request: pytest.FixtureRequest, script: Path, remotes: dict[str, Remote]) -> Server:
    if request.param == "stdio":
        return server(transport=Transport.STDIO, command=("node", str(script)))
    return server(transport=Transport(request.param), url=remotes[request.param].url)


async def test_everything_that_its_tools_return_is_told(everything: Server) -> None:
    seen = Seen()
    async with connected(everything, seen) as box:
        assert (await ask(box, "echo", message="¿Qué tal? 👋")).text == "Echo: ¿Qué tal? 👋"
        assert (await ask(box, "get-sum", a=20, b=22)).text == "The sum of 20 and 22 is 42."
        weather = await ask(box, "get-structured-content", location="Chicago")
        assert json.loads(weather.text) == {"temperature": 36, "conditions": "Light rain / drizzle", "humidity": 82}
        image = await ask(box, "get-tiny-image")
        assert image.text.splitlines()[1].startswith("[image: image/png, ")
        wrong = await ask(box, "get-structured-content", location="Atlantis")
        assert wrong.is_error
        resource = (await ask(box, "get-resource-reference", resourceType="Text", resourceId=1)).text.splitlines()
        assert len(resource) == 3
        await soon(lambda: bool(seen.lists), True)
        assert {"echo", "get-sum", "trigger-long-running-operation"} <= set(seen.lists[0])
        assert box.protocol == "2025-11-25"


async def test_calls_are_multiplexed_and_one_is_cancelled(everything: Server) -> None:
    async with connected(everything) as box:
        slow = asyncio.create_task(ask(box, "trigger-long-running-operation", duration=1, steps=2))
        left = asyncio.create_task(ask(box, "trigger-long-running-operation", duration=60, steps=1))
        sums = await asyncio.gather(*(ask(box, "get-sum", a=number, b=0) for number in range(20)))
        assert [one.text for one in sums] == [f"The sum of {n} and 0 is {n}." for n in range(20)]
        assert not left.done()

        left.cancel()

        assert (await slow).text == "Long running operation completed. Duration: 1 seconds, Steps: 2."


@pytest.mark.parametrize("kind", ["http", "sse"])
async def test_restart_is_noticed(remotes: dict[str, Remote], kind: str) -> None:
    seen: Any = Seen()
    async with connected(server(transport=Transport(kind), url=remotes[kind].url), seen) as box:
        await ask(box, "echo", message="a")
        await asyncio.to_thread(remotes[kind].kill)
        box.look()
        await soon(lambda: len(seen.states) > 1, True)
        await asyncio.to_thread(remotes[kind].start)
        await soon(lambda: seen.states[-1], "connected", within=20)
        assert (await ask(box, "echo", message="b")).text == "Echo: b"
