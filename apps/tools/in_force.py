"""The tools in force, in memory."""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

import structlog

from apps.core import globs, live_config
from apps.core.secrets import SecretUnreadable
from apps.tools import models
from apps.tools.models import Kind, McpServer
from apps.tools.tool import HttpCall, LocalCall, McpCall, Tool, ToolMissing

_ANYTHING: Final = {"type": "object", "properties": {}}

log = structlog.get_logger(__name__)


def value_of(row: models.Tool) -> Tool:
    """The row as runs see it. Raises SecretUnreadable."""
    parameters = {name: value for name, value in _schema_of(row).items() if name != "description"}
    return Tool(
        name=row.name,
        kind=Kind(row.kind),
        description=description_of(row),
        parameters=parameters or _ANYTHING,
        source=row.source(),
        call=_call(row),
        needs_approval=row.needs_approval,
        is_idempotent=row.is_idempotent,
        retries=row.retries,
        cache_seconds=row.cache_seconds,
        max_calls_per_run=row.max_calls_per_run,
        timeout=row.timeout,
        max_concurrency=row.max_concurrency,
        max_output_bytes=row.max_output_bytes,
    )


def description_of(row: models.Tool) -> str:
    """What models are told: what the operator wrote, else what the function's docstring says (local.py)."""
    return row.description or str(_schema_of(row).get("description", ""))


def _schema_of(row: models.Tool) -> Mapping[str, Any]:
    """A row that was stored past all checks must not keep the others from being read."""
    return row.parameters if isinstance(row.parameters, dict) else {}


def _call(row: models.Tool) -> LocalCall | HttpCall | McpCall:
    if row.kind == Kind.LOCAL:
        return LocalCall(row.function)
    if row.server is not None:
        return McpCall(row.server.slug, row.remote_name)
    return HttpCall(
        method=row.method,
        url=row.url,
        body=row.body,
        headers=row.headers,
        secret_headers=row.secret_headers,
        extract=row.extract,
        allow_private_hosts=row.allow_private_hosts,
    )


def _readable(rows: Iterable[models.Tool]) -> Iterator[Tool]:
    for row in rows:
        try:
            yield value_of(row)
        except SecretUnreadable as error:  # this one is out; the others serve
            log.error("tool_secret_unreadable", tool=row.name, reason=str(error))


def _load() -> Mapping[str, Tool]:
    rows = models.Tool.objects.filter(enabled=True, gone_at=None)
    rows = rows.exclude(server__enabled=False).exclude(server__parent__enabled=False)
    return MappingProxyType({tool.name: tool for tool in _readable(rows.select_related("server"))})


TOOLS = live_config.section("tools.table", _load, reads=[models.Tool, McpServer])


def tools() -> Mapping[str, Tool]:
    """Every tool that may be used, by its name. Reads memory only; the same mapping until a tool is changed."""
    return TOOLS.current()


def find(name: str) -> Tool:
    """Raises ToolMissing."""
    known = tools()
    if found := known.get(name):
        return found
    raise ToolMissing(name, tuple(difflib.get_close_matches(name, known, n=3)))


def matching(patterns: Iterable[str]) -> tuple[Tool, ...]:
    """The tools of these names and globs over names, each once, in the order of the patterns. Names that no tool has
    are passed over; no tool is there to be told of."""
    known = tools()
    found: dict[str, Tool] = {}
    for pattern in patterns:
        if pattern in known:
            found.setdefault(pattern, known[pattern])
        else:
            found |= {name: one for name, one in known.items() if name not in found and globs.fits(name, pattern)}
    return tuple(found.values())
