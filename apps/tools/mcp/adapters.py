"""Microsoft's mcp-gateway: a proxy in front of MCP servers, which it calls adapters, with a router to single tools.

Its README and openapi/mcp-gateway.openapi.json (github.com/microsoft/mcp-gateway, August 2026): `GET /adapters` lists
those that the token may use, `/adapters/{name}/mcp` and `/mcp` (the tool router) are streamable HTTP. Which pod serves
a session it knows by the header `mcp-session-id`, which the server sets in answer to `initialize` and the transport
sends with every further request. It takes POST alone, so that no server can send notices: lists are read by the clock.

Each adapter becomes a McpServer row of its own, whose tools are then read as any other server's.
"""

import asyncio
import hashlib
import random
import re
from collections.abc import Awaitable, Callable, Iterable
from contextvars import Context
from typing import Final

import structlog
from django.db import transaction

from apps.core import clock
from apps.tools.mcp.connection import LIST_EVERY, State
from apps.tools.mcp.failures import Observed, ServerDown, reason
from apps.tools.mcp.rows import Refreshed
from apps.tools.mcp.server import Server
from apps.tools.models import McpServer, Transport

ROUTER: Final = ""  # the name under which the tool router stands among the adapters
_LONGEST_SLUG = 32
_MOST_BYTES = 4 * 1024 * 1024
_SHORTEST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0  # seconds between attempts while it is down

log = structlog.get_logger(__name__)


async def listed_adapters(server: Server) -> list[str]:
    """The names of its adapters, and ROUTER. Raises ServerDown."""
    import httpx2

    from apps.tools.mcp.transports import http_client

    observed = Observed()
    try:
        async with http_client(server, observed) as client:
            response = await client.get(f"{server.url.rstrip('/')}/adapters", timeout=server.timeout)
            response.raise_for_status()
            told = response.json() if len(response.content) <= _MOST_BYTES else None
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise ServerDown(reason(error, server, observed)) from error
    except ValueError as error:
        raise ServerDown(f"{server.url}/adapters does not answer with JSON. Is this an mcp-gateway?") from error
    if not isinstance(told, list):
        raise ServerDown(f"{server.url}/adapters does not answer with a list. Is this an mcp-gateway?")
    names = [one.get("name") for one in told if isinstance(one, dict)]
    return [*(name for name in names if isinstance(name, str) and re.fullmatch(r"[a-z0-9-]+", name)), ROUTER]


def store(pk: int, names: Iterable[str]) -> Refreshed:
    """Make the rows under an mcp-gateway what it lists. One that is listed no more is disabled, and enabled again when
    it is back; one that an operator has disabled stays so."""
    with transaction.atomic():
        parent = McpServer.objects.select_for_update().filter(pk=pk).first()
        if parent is None:
            return Refreshed("")
        wanted = {_url(parent, name): name for name in names}
        rows = {row.url: row for row in parent.adapters.all()}
        added = [_add(parent, url, name) for url, name in wanted.items() if url not in rows]
        back = [row.slug for url, row in rows.items() if url in wanted and _return(row)]
        gone = [row.slug for url, row in rows.items() if url not in wanted and _leave(row)]
    return Refreshed(parent.slug, tuple(sorted([*added, *back])), tuple(sorted(gone)))


def _url(parent: McpServer, name: str) -> str:
    base = parent.url.rstrip("/")
    return f"{base}/mcp" if name == ROUTER else f"{base}/adapters/{name}/mcp"


def _add(parent: McpServer, url: str, name: str) -> str:
    row = McpServer(
        slug=_free_slug(f"{parent.slug}-{name or 'tools'}", url),
        transport=Transport.HTTP,
        url=url,
        parent=parent,
        timeout=parent.timeout,
        max_concurrency=parent.max_concurrency,
    )
    row.save()
    return row.slug


def _return(row: McpServer) -> bool:
    if row.gone_at is None:
        return False
    row.gone_at, row.enabled = None, True
    row.save(update_fields=["gone_at", "enabled"])
    return True


def _leave(row: McpServer) -> bool:
    if not row.enabled:
        return False
    row.gone_at, row.enabled = clock.now(), False
    row.save(update_fields=["gone_at", "enabled"])
    return True


def _free_slug(slug: str, url: str) -> str:
    digest = hashlib.sha256(url.encode()).hexdigest()
    candidates = [slug] if len(slug) <= _LONGEST_SLUG else []
    candidates += [f"{slug[: _LONGEST_SLUG - 1 - length]}-{digest[:length]}" for length in (4, 8, 16)]
    taken = set(McpServer.objects.filter(slug__in=candidates).values_list("slug", flat=True))
    return next(one for one in candidates if one not in taken)


class Watch:
    """Reads the list every few minutes. It has the same outside as a Connection, and no session."""

    def __init__(
        self,
        server: Server,
        *,
        on_state: Callable[["Watch"], None],
        on_adapters: Callable[["Watch", list[str]], Awaitable[None]],
    ) -> None:
        self.server = server
        self.state = State.CONNECTING
        self.reason = self.protocol = ""
        self._on_state, self._on_adapters = on_state, on_adapters
        loop = asyncio.get_running_loop()
        self._task = loop.create_task(self._read_for_ever(), name=f"mcp-gateway-{server.slug}", context=Context())

    @property
    def is_closed(self) -> bool:
        return self._task.done()

    def retire(self) -> None:
        self._task.cancel()

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.wait({self._task})

    async def _read_for_ever(self) -> None:
        failures = 0
        while True:
            try:
                await self._on_adapters(self, await listed_adapters(self.server))
                failures, state, told = 0, State.CONNECTED, ""
            except Exception as error:  # noqa: BLE001  # whatever it is, the next look must still happen
                failures, state, told = failures + 1, State.DOWN, reason(error, self.server, Observed())
                log.warning("mcp_gateway_unread", server=self.server.slug, reason=told)
            self.state, self.reason = state, told
            self._on_state(self)
            longest = min(_LONGEST_PAUSE, _SHORTEST_PAUSE * 2 ** min(failures, 10)) if failures else LIST_EVERY
            await asyncio.sleep(longest * random.uniform(0.7, 1))  # noqa: S311  # workers need not ask at once
