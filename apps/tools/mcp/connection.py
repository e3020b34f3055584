"""The connection to one MCP server: a task of its own opens it, looks after it, and alone closes it.

The SDK's transports are made of cancel scopes, which only the task that entered them may leave. Callers send their
requests through the open session at the same time, each from its own task: docs/decisions/0020.
"""

import asyncio
import math
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import Context
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

import anyio
import structlog
from django.conf import settings

from apps.tools.mcp import metrics
from apps.tools.mcp.failures import ConnectionLost, Observed, ServerDown, reason
from apps.tools.mcp.server import Server
from apps.tools.mcp.session import Refused, entered, listed_tools
from apps.tools.redaction import redacted

if TYPE_CHECKING:
    from mcp.client import Client

PING_EVERY: Final = 30.0  # seconds of silence
LIST_EVERY: Final = 300.0  # seconds; not every server gives notice, and proxies swallow it
LONGEST_PAUSE: Final = 60.0  # seconds between two attempts to connect
_SHORTEST_PAUSE = 0.5
_STABLE = 5.0  # seconds after which a connection counts as one that held
_PING_PATIENCE = 10.0  # seconds
_CLOSE_PATIENCE = 10.0
_DEBOUNCE = 0.3  # seconds: a server that adds ten tools gives notice ten times; longer while it goes on and on
_MOST_WAITING = 256  # calls, for one of the server's slots

log = structlog.get_logger(__name__)


class State(StrEnum):
    CONNECTING = "connecting"
    CONNECTED = "connected"
    DOWN = "down"


# Told of each change of a connection, and of the tools that the server lists. Awaited by nobody: must not raise.
OnState = Callable[["Connection"], None]
OnTools = Callable[["Connection", list[Any]], Awaitable[None]]


class Connection:
    """Of this process and event loop. `state` and `reason` say how it stands; `protocol` is the negotiated version."""

    def __init__(
        self, server: Server, *, on_state: OnState, on_tools: OnTools, ping_patience: float = _PING_PATIENCE
    ) -> None:
        self.server = server
        self._ping_patience = ping_patience
        self.state = State.CONNECTING
        self.reason = ""
        self.protocol = ""
        self._on_state, self._on_tools = on_state, on_tools
        self._client: Client | None = None
        self._observed = Observed()
        self._settled = asyncio.Event()  # an attempt to connect has come to its end
        self._wake = asyncio.Event()
        self._slots = asyncio.Semaphore(server.max_concurrency)
        self._calls = self._waiting = 0
        self._has_ended = self._must_look = False
        self._heard_at = self._list_at = self._read_at = 0.0
        self._debounce = _DEBOUNCE
        self._retire_by: float | None = None
        self._reading: asyncio.Task[None] | None = None
        self._scope = anyio.CancelScope()
        self._owner = asyncio.get_running_loop().create_task(self._own(), name=f"mcp-{server.slug}", context=Context())

    # --- callers -----------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def session(self) -> AsyncIterator["Client"]:
        """The open session, with one of the server's slots. Waits while an attempt to connect is under way, and for a
        slot. Raises ServerDown at once when the server is down."""
        if self._waiting >= _MOST_WAITING:
            raise ServerDown("Too many calls wait for it. Try again later.")
        self._waiting += 1
        try:
            await self._ready()
            await self._slots.acquire()
        finally:
            self._waiting -= 1
        self._calls += 1
        try:
            yield await self._ready()  # anew: it may have died while others had the slots
        finally:
            self._calls -= 1
            self._slots.release()
            if self._is_retiring():
                self._wake.set()

    def look(self) -> None:
        """Somebody has reason to think that the server is gone."""
        self._must_look = True
        self._wake.set()

    def has_lost(self, client: "Client") -> bool:
        """Whether the server does not know this session any more; then whoever asks for one now gets the next."""
        if not self._observed.forgot_session and self._client is client:
            return False
        if self._client is client:
            self._client, self._has_ended = None, True
            self._settled.clear()
            self._wake.set()
        return True

    def retire(self) -> None:
        """No new calls come: it closes when those under way have ended, or had the time to."""
        self._retire_by = anyio.current_time() + self.server.timeout
        self._wake.set()
        if self._client is None:
            self._scope.cancel()

    async def close(self) -> None:
        """Closed when it returns."""
        self._retire_by = -math.inf
        self._wake.set()
        self._scope.cancel()
        await asyncio.wait({self._owner}, timeout=2 * _CLOSE_PATIENCE)

    @property
    def is_closed(self) -> bool:
        return self._owner.done()

    def _is_retiring(self) -> bool:
        return self._retire_by is not None

    async def _ready(self) -> "Client":
        while self._client is None:
            if self.state == State.DOWN or self._owner.done():
                raise ServerDown(self.reason)
            await self._settled.wait()
        return self._client

    # --- the owner ---------------------------------------------------------------------------------------------------

    async def _own(self) -> None:
        try:
            await self._connect_for_ever()
        finally:  # nobody waits for it in vain
            self.state, self.reason = State.DOWN, "Its connection is being closed."
            self._settled.set()

    async def _connect_for_ever(self) -> None:
        failures = 0
        while not self._is_retiring():
            self._become(State.CONNECTING)
            began = anyio.current_time()
            told, held = await self._hold()
            if self._is_retiring():
                return
            failures = 0 if held and anyio.current_time() - began > _STABLE else failures + 1
            if held and failures <= 1:  # once more at once: it may have been restarted
                log.warning("mcp_server_lost", server=self.server.slug, reason=told)
            else:
                self._become(State.DOWN, told)
                await self._pause(failures)
            metrics.RECONNECTS.labels(self.server.slug).inc()

    async def _hold(self) -> tuple[str, bool]:
        """One connection from its beginning to its end: why it ended, and whether it ever stood."""
        self._observed = Observed()
        held = False
        try:
            for is_last, mode in enumerate(("legacy", "auto")):
                try:
                    async with self._connected(mode) as client:
                        held = True
                        await self._serve(client)
                except Refused as refused:
                    if is_last:
                        raise refused.__cause__ or refused from None
                    continue
                break
        except Exception as error:  # noqa: BLE001  # whatever a transport raises, the server is tried again
            return reason(error, self.server, self._observed), held
        return reason(ConnectionLost(), self.server, self._observed), held

    @asynccontextmanager
    async def _connected(self, mode: str) -> AsyncIterator["Client"]:
        """Raises Refused when only another `mode` can do, TimeoutError, and whatever the transport raises."""
        from mcp.client import Client

        from apps.tools.mcp import transports

        self._has_ended = self._must_look = False
        self._scope = anyio.CancelScope(deadline=anyio.current_time() + settings.GATEWAY_MCP_CONNECT_TIMEOUT)
        client: Client | None = None
        if self._is_retiring():
            self._scope.cancel()
        with self._scope:
            transport = transports.opened(self.server, self._observed, self._heard)
            async with entered(Client(transport, mode=mode, cache=None, message_handler=self._noticed)) as client:
                self._scope.deadline = math.inf
                self.protocol = client.protocol_version
                self._client, self._list_at = client, 0.0
                self._become(State.CONNECTED)
                try:
                    yield client
                finally:
                    self._client = None
                    self._settled.clear()
                    if self._reading:
                        self._reading.cancel()
                    self._scope.deadline = anyio.current_time() + _CLOSE_PATIENCE
        if client is None:
            raise TimeoutError

    async def _serve(self, client: "Client") -> None:
        """Until it shall close. Raises ConnectionLost."""
        self._heard_at = anyio.current_time()
        while not self._may_close():
            now = anyio.current_time()
            if self._has_ended:
                raise ConnectionLost
            if self._must_look or now >= self._heard_at + PING_EVERY:
                self._must_look = False
                await self._ping(client)
                self._heard_at = anyio.current_time()
            if now >= self._list_at and (self._reading is None or self._reading.done()):
                self._list_at = now + LIST_EVERY * random.uniform(0.9, 1.1)  # noqa: S311  # workers need not ask at once
                is_soon = now < self._read_at + 4 * self._debounce
                self._debounce = min(2 * self._debounce, LONGEST_PAUSE) if is_soon else _DEBOUNCE
                self._read_at = now
                self._reading = asyncio.create_task(self._read(client))
            with anyio.move_on_after(min(self._heard_at + PING_EVERY, self._list_at) - anyio.current_time()):
                await self._wake.wait()
            self._wake.clear()

    def _may_close(self) -> bool:
        by = self._retire_by
        return by is not None and (not self._calls or anyio.current_time() >= by)

    async def _ping(self, client: "Client") -> None:
        """Raises ConnectionLost when nobody is there."""
        from mcp import MCPError
        from mcp_types import METHOD_NOT_FOUND

        try:
            with anyio.fail_after(self._ping_patience):
                await client.session.send_ping()
        except TimeoutError:
            if not self._calls:  # a server that works on a call may be too busy to answer
                raise ConnectionLost from None
        except MCPError as error:
            if error.code != METHOD_NOT_FOUND:  # newer protocols know no ping: the refusal is an answer
                raise ConnectionLost from error

    async def _read(self, client: "Client") -> None:
        told = ""
        try:
            with anyio.fail_after(self.server.timeout):
                listed = await listed_tools(client)
            await self._on_tools(self, listed)
        except Exception as error:  # noqa: BLE001  # the connection may stand; the tools of last time stay
            told = f"Its tools could not be read. {reason(error, self.server, self._observed)}"
            repr_of = redacted(repr(error), self.server.secrets)
            log.warning("mcp_tools_unread", server=self.server.slug, reason=told, error=repr_of)
            self._list_at = anyio.current_time() + LONGEST_PAUSE
        if self._client is client:
            self._become(State.CONNECTED, told)

    async def _pause(self, failures: int) -> None:
        longest = min(LONGEST_PAUSE, _SHORTEST_PAUSE * 2 ** min(failures, 10))
        self._wake.clear()
        with anyio.move_on_after(longest * random.uniform(0.5, 1)):  # noqa: S311
            while not self._is_retiring():
                await self._wake.wait()
                self._wake.clear()

    # --- what comes in -----------------------------------------------------------------------------------------------

    def _heard(self, is_message: bool) -> None:
        if is_message:
            self._heard_at = anyio.current_time()
        else:
            self._has_ended = True
            self._wake.set()

    async def _noticed(self, message: Any) -> None:
        from mcp_types import ToolListChangedNotification

        if isinstance(message, ToolListChangedNotification):
            soon = anyio.current_time() + self._debounce
            if soon < self._list_at:
                self._list_at = soon
                self._wake.set()

    def _become(self, state: State, told: str = "") -> None:
        before, self.state, self.reason = (self.state, self.reason), state, told
        if state == State.CONNECTING:
            self._settled.clear()
        else:
            self._settled.set()
        if before != (state, told):
            self._on_state(self)
