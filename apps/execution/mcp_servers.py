"""The MCP servers that drop-ins declare on their agents: one connection each, shared by all runs of this process.

The SDK leaves it to its host to connect them. Here the first run that may need a server connects it, it is looked at
before every turn and connected again when it has died, and it is closed when the last version that declares it has
retired and its last run has ended. A server that the module's own code connects, in its workflow, is left to it.
"""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import Context
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from agents import Agent
from agents.mcp import MCPServer, MCPServerManager, MCPServerStdio, MCPServerStreamableHttp
from django.conf import settings
from mcp import MCPError
from mcp_types import METHOD_NOT_FOUND, REQUEST_TIMEOUT

from apps.catalog import graph, packages
from apps.catalog.packages import Package
from apps.catalog.registry import Generation
from apps.core.errors import Unavailable
from apps.upstreams.calls import CallLog, current_calls

_FRESH = 1.0  # seconds for which a server that was seen alive counts as alive
_PING_PATIENCE = 2.0
_CLOSE_PATIENCE = 10.0
_SHORTEST_PAUSE = 1.0  # between a connection that failed and the next attempt

log = structlog.get_logger(__name__)

# Changed on the event loop, and by whoever lets go of a package while nobody can hold it.
_connections: dict[int, "_Connection"] = {}  # by the id() of the server, which its connection keeps alive
_adopted: set[str] = set()  # the names of the packages whose servers are among them


async def connect(generation: Generation) -> None:
    """Every server of the agents that a run may come to is connected when it returns. The run holds the version.

    A workflow's servers are connected when the SDK first asks them for their tools, because it may connect them itself;
    those of an agent that every run builds anew belong to `of_run`.
    Raises Unavailable when one cannot be connected, after GATEWAY_MCP_CONNECT_TIMEOUT at the latest.
    """
    if generation.package not in _adopted:
        package = packages.find(generation.package)
        assert package is not None, "a run holds its version"
        _adopt(package, generation)
    if generation.export.workflow is None and generation.export.per_run is None:
        ids = {id(server) for agent in generation.export.agents for server in agent.mcp_servers}
        if ids:
            await asyncio.gather(*(_connections[one].ready() for one in ids & _connections.keys()))


@asynccontextmanager
async def of_run(agent: Agent[Any], generation: Generation) -> AsyncIterator[None]:
    """Inside, the servers of an agent that was built for one run are connected. At the end they are closed, also when
    its factory connected them; a server that the module shares between its runs stays. Raises Unavailable."""
    package = packages.find(generation.package)
    assert package is not None, "a run holds its version"
    run = f"{package.name} {id(agent)}"
    servers = {id(server): server for one in graph.reachable(agent) for server in one.mcp_servers}
    connections = [_connection(server, package, run) for server in servers.values()]
    try:
        await asyncio.gather(*(one.ready() for one in connections))
        yield
    finally:
        for one in connections:
            one.leave(run)


async def close() -> None:
    """Close them all: the process stops."""
    _adopted.clear()
    connections = list(_connections.values())
    for one in connections:
        one.users.clear()
    await asyncio.gather(*(one.close() for one in connections))


@dataclass(frozen=True, slots=True)
class Standing:
    """Whether this process is connected to a server, or why it could not be."""

    server: str
    connected: bool
    reason: str


def standings(generation: Generation) -> tuple[Standing, ...]:
    """Of the servers of a version that has run in this process."""
    return tuple(one.standing for one in list(_connections.values()) if generation.package in one.users)


def _adopt(package: Package, generation: Generation) -> None:
    package.on_leave(_left)
    _adopted.add(package.name)
    for server in _declared(package, generation):
        _connection(server, package, package.name)


def _connection(server: MCPServer, package: Package, user: str) -> "_Connection":
    if id(server) not in _connections:
        _settle(server, package.folder)
        _connections[id(server)] = _Connection(server)
    _connections[id(server)].users.add(user)
    return _connections[id(server)]


def _declared(package: Package, generation: Generation) -> list[MCPServer]:
    """Those of the exported agents, and those that the module's own code may give to runs of its own."""
    variables = [value for module in package.modules.values() for value in list(vars(module).values())]
    agents = [value for value in variables if isinstance(value, Agent)]
    servers = [value for value in variables if isinstance(value, MCPServer)]
    for agent in graph.reachable(*generation.export.agents, *agents):
        servers += agent.mcp_servers
    return servers


def _settle(server: MCPServer, folder: Path) -> None:
    """Let it serve many runs, and start where its author starts it."""
    if isinstance(server, MCPServerStdio):
        server.params.cwd = folder / (server.params.cwd or "")  # `args=["server.py"]` is in the agent's folder
    elif isinstance(server, MCPServerStreamableHttp):
        # The SDK sends one request at a time: while one run's call works, no other run would even get the tools' list.
        server._serialize_session_requests = False  # noqa: SLF001  # tests/v1/test_mcp.py shows what it does


def _left(package: str) -> None:
    """Nobody holds the package any more. Called in any thread."""
    _adopted.discard(package)
    for one in list(_connections.values()):
        if package in one.users:
            one.loop.call_soon_threadsafe(_leave, one, package)


def _leave(connection: "_Connection", package: str) -> None:
    if packages.find(package) is None:  # else another run has begun on it meanwhile
        connection.leave(package)


@dataclass(frozen=True, slots=True)
class _Failure:
    reason: str
    until: float  # when the next attempt may be made, in the loop's time


class _Connection:
    """One server. What is done to it happens in tasks of its own: no run that ends or is cancelled takes it along."""

    def __init__(self, server: MCPServer) -> None:
        self.users: set[str] = set()  # the packages that declare it, and the runs that it was built for
        self.loop = asyncio.get_running_loop()
        self._server = server
        self._changing = asyncio.Lock()
        self._manager: MCPServerManager | None = None  # of the present connection, unless the module made that
        self._look: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._fresh_until = 0.0
        self._failure: _Failure | None = None
        self._calls = 0
        # The SDK asks every server for its tools when a turn begins: the moment to see that it is there.
        self._list_tools, self._call_tool = server.list_tools, server.call_tool
        vars(server).update(list_tools=self._looked_after_list_tools, call_tool=self._counted_call_tool)

    @property
    def name(self) -> str:
        return self._server._error_name  # noqa: SLF001  # without the credentials that a URL may hold

    @property
    def standing(self) -> Standing:
        connected = self._manager is not None or self._session is not None
        return Standing(self.name, connected, self._failure.reason if self._failure else "")

    @property
    def _session(self) -> Any:
        """What the SDK's own classes talk through while they are connected; a class of the module's may have none."""
        return getattr(self._server, "session", None)

    async def ready(self) -> None:
        """The server is connected when it returns, anew if it had died. Raises Unavailable.

        On another loop than its own, such as that of `Runner.run_sync` in a thread, a server is of no use: there it is
        left as the SDK has it.
        """
        if asyncio.get_running_loop() is not self.loop or self.loop.time() < self._fresh_until:
            return
        if self._look is None or self._look.done():
            self._look = self.loop.create_task(self._look_after(), context=_context())
        await asyncio.wait({self._look}, timeout=settings.GATEWAY_MCP_CONNECT_TIMEOUT)
        if not self._look.done():
            raise self._unavailable(_SHORTEST_PAUSE)
        self._look.result()
        if self._failure:
            raise self._unavailable(self._failure.until - self.loop.time())

    def leave(self, user: str) -> None:
        """Begins to close it when nobody else uses it."""
        self.users.discard(user)
        if not self.users:
            self._closing = self.loop.create_task(self.close(), context=_context())

    async def close(self) -> None:
        """Idempotent. Does nothing when somebody uses it again."""
        async with self._changing:
            if self.users or _connections.get(id(self._server)) is not self:
                return
            await self._disconnect()
            if not self.users:  # nobody has come meanwhile
                vars(self._server).update(list_tools=self._list_tools, call_tool=self._call_tool)
                del _connections[id(self._server)]

    async def _looked_after_list_tools(self, *args: Any, **kwargs: Any) -> Any:
        await self.ready()
        manager = self._manager
        try:
            return await self._list_tools(*args, **kwargs)
        except Exception:
            self._fresh_until = 0.0
            await self.ready()
            if self._manager is manager:  # it was the server's answer
                raise
        return await self._list_tools(*args, **kwargs)

    async def _counted_call_tool(self, *args: Any, **kwargs: Any) -> Any:
        """Never repeated when it fails, because the tool may have done its work. The next turn looks at the server."""
        self._calls += 1
        try:
            return await self._call_tool(*args, **kwargs)
        except Exception:
            self._fresh_until = 0.0
            raise
        finally:
            self._calls -= 1

    async def _look_after(self) -> None:
        async with self._changing:
            if not self.users or (self._failure and self.loop.time() < self._failure.until):
                return
            if not await self._is_alive():
                await self._disconnect()
                await self._connect()
            if not self._failure:
                self._fresh_until = self.loop.time() + _FRESH

    async def _is_alive(self) -> bool:
        if self._session is None:
            return self._manager is not None and not hasattr(self._server, "session")
        try:
            async with asyncio.timeout(_PING_PATIENCE):
                await self._session.send_ping()
        except MCPError as error:
            # The protocol of 2026-07-28 knows no ping: the refusal is an answer.
            return error.code == METHOD_NOT_FOUND or (error.code == REQUEST_TIMEOUT and self._may_be_busy)
        except TimeoutError:
            return self._may_be_busy
        except Exception as error:  # noqa: BLE001  # whatever a transport raises, nobody answered
            log.info("mcp_server_silent", server=self.name, error=repr(error))
            return False
        return True

    @property
    def _may_be_busy(self) -> bool:
        """A server that works on a call may be too busy to answer; one that nobody waits for hangs."""
        return self._calls > 0 or self._manager is None

    async def _connect(self) -> None:
        began = self.loop.time()
        manager = MCPServerManager(
            [self._server],
            connect_in_parallel=True,  # in a task of the manager's own, which some transports want to be closed in too
            connect_timeout_seconds=settings.GATEWAY_MCP_CONNECT_TIMEOUT,
            cleanup_timeout_seconds=_CLOSE_PATIENCE,
        )
        await manager.connect_all()
        now = self.loop.time()
        if error := manager.errors.get(self._server):
            await manager.cleanup_all()
            # As long again as it took: a server that hangs does not keep every request waiting.
            self._failure = _Failure(_reason(error), until=now + max(now - began, _SHORTEST_PAUSE))
            log.warning("mcp_server_unavailable", server=self.name, reason=self._failure.reason)
        else:
            self._manager, self._failure = manager, None
            log.info("mcp_server_connected", server=self.name, seconds=round(now - began, 3))

    async def _disconnect(self) -> None:
        self._fresh_until = 0.0
        manager, self._manager = self._manager, None
        if manager is None and self._session is None:
            return
        # Without a manager, the module's code has connected it: a factory at load, or a run that left it so.
        manager = manager or MCPServerManager([self._server], cleanup_timeout_seconds=_CLOSE_PATIENCE)
        await manager.cleanup_all()
        log.info("mcp_server_closed", server=self.name)

    def _unavailable(self, pause: float) -> Unavailable:
        return Unavailable(
            f"The MCP server '{self.name}', which this agent takes tools from, cannot be reached. Try again in a "
            "moment; if it lasts, see `mcp_server_unavailable` in the gateway's log.",
            code="mcp_unavailable",
            retry_after=math.ceil(max(pause, _SHORTEST_PAUSE)),
        )


def _context() -> Context:
    """Nothing of the run that came first. It counts as a run: sys.exit() in a module's message handler is contained."""
    context = Context()
    context.run(current_calls.set, CallLog())
    return context


def _reason(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, TimeoutError):
        return f"It did not answer within {settings.GATEWAY_MCP_CONNECT_TIMEOUT:g} s."
    return f"{type(error).__name__}: {error}"
