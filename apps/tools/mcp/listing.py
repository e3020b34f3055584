"""Reading the tools of MCP servers now: for commands, the console and the operators' API.

It connects by itself, so that it also tells whether the configuration works, and needs no running gateway.
"""

import asyncio
from collections.abc import Iterable
from typing import Any

from apps.core.errors import NotFound
from apps.core.secrets import SecretUnreadable
from apps.tools.mcp import adapters, rows
from apps.tools.mcp.connection import Connection, State
from apps.tools.mcp.failures import ServerDown
from apps.tools.mcp.rows import Refreshed
from apps.tools.mcp.server import Server, from_row
from apps.tools.models import McpServer, Transport

_AT_ONCE = 8  # servers that are asked

__all__ = ["Refreshed", "refresh"]


def refresh(slug: str | None = None, *, processes: bool = True) -> list[Refreshed]:
    """Read one server, or all that are enabled, and store what they list; of an mcp-gateway its adapters, and then
    theirs. One result for each, in the order of names, adapters last. Raises NotFound.

    Without `processes`, servers that are processes of this machine are passed over: nobody but a superuser starts one.
    Takes as long as the slowest server, GATEWAY_MCP_CONNECT_TIMEOUT and its own time-out at most.
    """
    known = McpServer.objects.select_related("parent")
    chosen = list(known.filter(slug=slug) if slug else known.filter(enabled=True).exclude(parent__enabled=False))
    if slug and not chosen:
        raise NotFound(f"There is no MCP server '{slug}'.")
    if not processes:
        chosen = [row for row in chosen if row.transport != Transport.STDIO]
    gateways = [row for row in chosen if row.transport == Transport.GATEWAY]
    done = _refreshed(gateways)
    of_gateways = known.filter(parent__in=gateways, enabled=True)
    others = [row for row in chosen if row.transport != Transport.GATEWAY and row.parent not in gateways]
    return sorted(done + _refreshed(others), key=lambda one: one.server) + _refreshed(of_gateways)


def _refreshed(chosen: Iterable[McpServer]) -> list[Refreshed]:
    servers: list[Server] = []
    failed: list[Refreshed] = []
    for row in chosen:
        try:
            servers.append(from_row(row))
        except SecretUnreadable as error:
            failed.append(_failed(row.pk, row.slug, str(error)))
    read = asyncio.run(_read_all(servers)) if servers else []
    return failed + [_stored(server, found) for server, found in zip(servers, read, strict=True)]


def _stored(server: Server, found: Any) -> Refreshed:
    if isinstance(found, ServerDown):
        return _failed(server.pk, server.slug, str(found))
    if isinstance(found, BaseException):
        raise found
    protocol, listed = found
    rows.note(server.pk, state=State.CONNECTED, reason="", protocol=protocol)
    store = adapters.store if server.transport == Transport.GATEWAY else rows.store_tools
    return store(server.pk, listed)


def _failed(pk: int, slug: str, error: str) -> Refreshed:
    rows.note(pk, state=State.DOWN, reason=error)
    return Refreshed(slug, error=error)


async def _read_all(servers: list[Server]) -> list[Any]:
    """For each server its protocol and list, or ServerDown."""
    few = asyncio.Semaphore(_AT_ONCE)

    async def read(server: Server) -> Any:
        async with few:
            return await (_adapters(server) if server.transport == Transport.GATEWAY else _tools(server))

    return await asyncio.gather(*map(read, servers), return_exceptions=True)


async def _adapters(server: Server) -> tuple[str, list[str]]:
    return "", await adapters.listed_adapters(server)


async def _tools(server: Server) -> tuple[str, list[Any]]:
    """Raises ServerDown."""
    found: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()

    async def take(_connection: Connection, listed: list[Any]) -> None:
        found.set_result(listed)

    def down(connection: Connection) -> None:
        if connection.reason and not found.done():
            found.set_exception(ServerDown(connection.reason))

    connection = Connection(server, on_state=down, on_tools=take)
    try:
        listed = await found
        return connection.protocol, listed
    finally:
        await connection.close()
