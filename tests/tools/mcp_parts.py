"""What the tests of MCP servers share: values, processes, and a connection that tells what it sees."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from apps.tools.mcp.calling import told
from apps.tools.mcp.connection import Connection
from apps.tools.mcp.server import Server
from apps.tools.models import Transport
from apps.tools.tool import ToolOutput
from tests.harness.processes import ServerProcess, clean_environment

FAKES = Path(__file__).resolve().parents[1] / "fakes"
FAKE, MOODS, BARE = FAKES / "mcp_server.py", FAKES / "mcp_moods.py", FAKES / "mcp_bare.py"


def server(slug: str = "box", **fields: Any) -> Server:
    usual: dict[str, Any] = {
        "pk": 1, "slug": slug, "transport": Transport.HTTP, "url": "", "headers": {}, "command": (), "environment": {},
        "oauth": {}, "allowed_tools": (), "timeout": 20.0, "max_concurrency": 8,
    }  # fmt: skip
    return Server(**(usual | fields))


def stdio(script: Path = BARE, *options: str, **fields: Any) -> Server:
    return server(transport=Transport.STDIO, command=(sys.executable, str(script), *options), **fields)


class Remote(ServerProcess):
    """One of the fakes over HTTP; `url` has the path."""

    announcement = "at "

    def __init__(self, script: Path, *options: str) -> None:
        super().__init__([str(script), *options], clean_environment())

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2].partition("/")[0])


class Seen:
    """What a connection told: its states in order, and the names of the tools of every list."""

    def __init__(self) -> None:
        self.states: list[str] = []
        self.lists: list[list[str]] = []

    def state(self, connection: Connection) -> None:
        if self.states[-1:] != [connection.state.value]:
            self.states.append(connection.state.value)

    async def tools(self, _connection: Connection, listed: list[Any]) -> None:
        self.lists.append([tool.name for tool in listed])


@asynccontextmanager
async def connected(value: Server, seen: Seen | None = None, **options: Any) -> AsyncIterator[Connection]:
    seen = seen or Seen()
    connection = Connection(value, on_state=seen.state, on_tools=seen.tools, **options)
    try:
        yield connection
    finally:
        await connection.close()
        assert connection.is_closed


async def ask(connection: Connection, tool: str, **arguments: Any) -> ToolOutput:
    async with connection.session() as client:
        return told(await client.call_tool(tool, arguments))


async def soon(read: Callable[[], Any], expected: Any, *, within: float = 10.0) -> None:
    """Waits until the value equals `expected`, while the loop goes on."""
    deadline = time.monotonic() + within
    while (seen := read()) != expected:
        if time.monotonic() > deadline:
            raise AssertionError(f"after {within:g} s still {seen!r} instead of {expected!r}")
        await asyncio.sleep(0.02)
