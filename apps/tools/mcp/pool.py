"""The MCP servers that this process is connected to: one connection for each server in force and event loop.

The server process starts it; elsewhere, such as in a command, the first call does. It follows the configuration: a
server that was changed gets a new connection, and the old one closes when the calls under way have ended.
"""

import asyncio
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import structlog
from django.db import close_old_connections
from django.db import connection as database

from apps.tools.mcp import adapters, rows
from apps.tools.mcp.connection import Connection
from apps.tools.mcp.failures import ServerDown
from apps.tools.mcp.server import Server, servers
from apps.tools.models import Transport

_LOOK_EVERY = 0.2  # seconds between two looks at the configuration in memory

log = structlog.get_logger(__name__)

Owner = Connection | adapters.Watch
_pools: WeakKeyDictionary[asyncio.AbstractEventLoop, "Pool"] = WeakKeyDictionary()


def current() -> "Pool":
    """Of the running loop, started when it is the first call."""
    loop = asyncio.get_running_loop()
    if loop not in _pools:
        _pools[loop] = Pool()
    return _pools[loop]


async def close() -> None:
    """Close what the running loop has, and wait for it."""
    if pool := _pools.pop(asyncio.get_running_loop(), None):
        await pool.close()


def standings() -> Iterator[tuple[str, str]]:
    """Name and state of every server that this process is connected to, or tries to be."""
    for pool in list(_pools.values()):
        for slug, owner in list(pool.owners.items()):
            yield slug, owner.state


class Pool:
    def __init__(self) -> None:
        self.owners: dict[str, Owner] = {}
        self._retired: set[Owner] = set()
        self._seen: Mapping[str, Server] = {}
        # One thread: what is written of a server stays in order, and needs one connection to the database.
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="mcp-rows")
        self._follow()
        self._watching = asyncio.get_running_loop().create_task(self._watch(), name="mcp-pool", context=Context())

    def connection(self, slug: str) -> Connection:
        """As the configuration in force has it. Raises ServerDown."""
        self._follow()
        owner = self.owners.get(slug)
        if not isinstance(owner, Connection):
            raise ServerDown("It is switched off, or not there any more.")
        return owner

    async def close(self) -> None:
        self._watching.cancel()
        await asyncio.gather(*(owner.close() for owner in [*self.owners.values(), *self._retired]))
        self.owners.clear()
        await asyncio.get_running_loop().run_in_executor(self._writer, _close_database)
        self._writer.shutdown(wait=False)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_EVERY)
            self._follow()

    def _follow(self) -> None:
        wanted = servers()
        if wanted is self._seen:
            return
        self._seen = wanted
        for slug, owner in list(self.owners.items()):
            if wanted.get(slug) != owner.server:
                owner.retire()
                self._retired.add(self.owners.pop(slug))
        for slug, server in wanted.items():
            if slug not in self.owners:
                self.owners[slug] = self._owner(server)
        self._retired = {owner for owner in self._retired if not owner.is_closed}

    def _owner(self, server: Server) -> Owner:
        if server.transport == Transport.GATEWAY:
            return adapters.Watch(server, on_state=self._note, on_adapters=self._store_adapters)
        return Connection(server, on_state=self._note, on_tools=self._store_tools)

    def _note(self, owner: Owner) -> None:
        """Ordered, and waited for by nobody."""
        if self.owners.get(owner.server.slug) is owner:  # else another has taken its place
            told = {"state": owner.state.value, "reason": owner.reason, "protocol": owner.protocol}
            write = self._writer.submit(_in_thread, partial(rows.note, owner.server.pk, **told))
            write.add_done_callback(_tell)

    async def _store_tools(self, connection: Connection, listed: list[Any]) -> None:
        await self._write(rows.store_tools, connection.server.pk, listed)
        self._note(connection)

    async def _store_adapters(self, watch: adapters.Watch, names: list[str]) -> None:
        await self._write(adapters.store, watch.server.pk, names)

    async def _write(self, write: Any, *arguments: Any) -> None:
        call = partial(_in_thread, partial(write, *arguments))
        done = await asyncio.get_running_loop().run_in_executor(self._writer, call)
        if done.added or done.gone or done.changed:
            log.info("mcp_tools_read", server=done.server, added=done.added, gone=done.gone, changed=done.changed)


def _in_thread(write: Any) -> Any:
    """A connection that the database has closed meanwhile is not used again."""
    close_old_connections()
    return write()


def _close_database() -> None:
    database.close()  # of the thread that calls


def _tell(write: Any) -> None:
    if error := write.exception():
        log.error("mcp_state_unwritten", error=str(error))
