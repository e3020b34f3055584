"""An MCP server as its connection sees it: an immutable value of the live configuration."""

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType

import structlog
from django.conf import settings

from apps.core import globs, live_config
from apps.core.secrets import SecretUnreadable
from apps.tools.models import McpServer, Transport
from apps.tools.redaction import looks_secret, secret_parts

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Server:
    """Two that are equal are connected alike. `timeout` is in seconds."""

    pk: int
    slug: str
    transport: Transport
    url: str
    headers: Mapping[str, str] = field(repr=False)  # the secret ones included
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)
    oauth: Mapping[str, str] = field(repr=False)  # empty, or McpServer.oauth
    allowed_tools: tuple[str, ...]
    timeout: float
    max_concurrency: int
    renewed_at: datetime | None = None
    secrets: tuple[str, ...] = field(default=(), repr=False)  # what is not to be told, as secret_parts gives it


def from_row(row: McpServer) -> Server:
    """An adapter of an mcp-gateway authenticates as the gateway's row says. Raises SecretUnreadable."""
    parent = row.parent
    inherited = {**parent.headers, **parent.secret_headers} if parent else {}
    return Server(
        pk=row.pk,
        slug=row.slug,
        transport=Transport(row.transport),
        url=row.url,
        headers={**inherited, **row.headers, **row.secret_headers},
        command=tuple(row.command),
        environment=row.environment,
        oauth=row.oauth or (parent.oauth if parent else {}),
        allowed_tools=tuple(row.allowed_tools),
        timeout=row.timeout,
        max_concurrency=row.max_concurrency,
        renewed_at=_later(row.renewed_at, parent.renewed_at if parent else None),
        secrets=tuple(secret_parts(_secrets(row) + (_secrets(parent) if parent else []))),
    )


def _secrets(row: McpServer) -> list[str]:
    named = {"client_secret": row.oauth.get("client_secret", ""), **row.environment}
    return [*row.secret_headers.values(), *(value for name, value in named.items() if looks_secret(name))]


def may_start(command: Sequence[str]) -> bool:
    """Whether GATEWAY_MCP_STDIO allows the command of a stdio server."""
    return globs.matches(shlex.join(command), settings.GATEWAY_MCP_STDIO)


def _later(one: datetime | None, other: datetime | None) -> datetime | None:
    return max(one, other) if one and other else one or other


def _readable(rows: Iterable[McpServer]) -> Iterator[Server]:
    for row in rows:
        try:
            yield from_row(row)
        except SecretUnreadable as error:  # this one is out; the others serve
            log.error("mcp_secret_unreadable", server=row.slug, reason=str(error))


def _load() -> Mapping[str, Server]:
    rows = McpServer.objects.filter(enabled=True).exclude(parent__enabled=False).select_related("parent")
    return MappingProxyType({server.slug: server for server in _readable(rows)})


SERVERS = live_config.section("tools.mcp_servers", _load, reads=[McpServer])


def servers() -> Mapping[str, Server]:
    """Every server in force, by its name. Reads memory only; the same mapping until one is changed."""
    return SERVERS.current()
