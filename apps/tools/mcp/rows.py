"""What is written about MCP servers: how they stand, and a Tool row for every tool that they list.

Called in threads. Several workers do the same for one server: each holds the lock of its row while it compares, and
saves only what differs, so that the second finds nothing left to do.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import structlog
from django.db import transaction

from apps.core import clock, globs
from apps.core.json import encode
from apps.tools.arguments import problem_with_schema
from apps.tools.models import Kind, McpServer, Tool

if TYPE_CHECKING:
    import mcp_types

_LONGEST_NAME: Final = 64
_LONGEST_REMOTE: Final = 200
_LARGEST: Final = 100_000  # bytes of a description and a schema, which every model call carries

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Refreshed:
    """What reading a server's list has changed: names of tools, or of adapters in case of an mcp-gateway. `error` is a
    sentence; then nothing has."""

    server: str
    added: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    error: str = ""


def note(pk: int, *, state: str, reason: str, protocol: str = "") -> None:
    """Store how it stands. It is no configuration, so it wakes nobody."""
    now = clock.now()
    row = McpServer.objects.filter(pk=pk).unpublished()
    row.exclude(state=state).update(state_since=now)
    seen = {"protocol": protocol} if protocol else {}
    row.update(state=state, reason=reason, checked_at=now, **seen)


def store_tools(pk: int, listed: Sequence["mcp_types.Tool"]) -> Refreshed:
    """Make the server's Tool rows what it lists, as far as it may: names, descriptions and schemas follow the server,
    everything else is the operators'. A tool that is listed no more stays, and is out of use until it is listed again.
    """
    with transaction.atomic():
        server = McpServer.objects.select_for_update().filter(pk=pk).first()
        if server is None:
            return Refreshed("")
        rows = {row.remote_name: row for row in server.tools.all()}
        wanted = {tool.name: tool for tool in listed if _is_wanted(server, tool, rows.get(tool.name))}
        added = [_add(server, tool) for name, tool in wanted.items() if name not in rows]
        back = [rows[name] for name in wanted if name in rows and _return(rows[name])]
        changed = [rows[name] for name, tool in wanted.items() if name in rows and _follow(rows[name], tool)]
        gone = [row for name, row in rows.items() if name not in wanted and _leave(row)]
    return Refreshed(server.slug, _names([*added, *back]), _names(gone), _names(changed))


def _is_wanted(server: McpServer, tool: "mcp_types.Tool", known: Tool | None) -> bool:
    """One that cannot be used would have the database refuse the whole list, or the model's server every call that
    offers it."""
    if server.allowed_tools and not globs.matches(tool.name, server.allowed_tools):
        return False
    if known and not _news(known, tool):
        return True
    if problem := _problem(tool):
        log.warning("mcp_tool_unusable", server=server.slug, tool=tool.name[:_LONGEST_REMOTE], reason=problem)
    return not problem


def _problem(tool: "mcp_types.Tool") -> str:
    """Why it cannot be a tool here, in a sentence."""
    if not 0 < len(tool.name) <= _LONGEST_REMOTE:
        return f"Its name has {len(tool.name)} characters; it may have {_LONGEST_REMOTE}."
    try:
        told = encode([tool.name, _description(tool), tool.input_schema])
        if len(told) > _LARGEST:
            return f"Its description and schema have {len(told):,} bytes; more than {_LARGEST:,} are not taken."
        if b"\\u0000" in told:
            return "It has NUL characters in it."
        return problem_with_schema(tool.input_schema)
    except RecursionError:
        return "Its schema is too deep."
    except ValueError:
        return "It has characters in it that are none."


def _add(server: McpServer, tool: "mcp_types.Tool") -> Tool:
    hints = tool.annotations
    row = Tool(
        name=_free_name(server.slug, tool.name),
        kind=Kind.MCP,
        server=server,
        remote_name=tool.name,
        description=_description(tool),
        parameters=tool.input_schema,
        is_idempotent=bool(hints and (hints.read_only_hint or hints.idempotent_hint)),
        timeout=server.timeout,
    )
    row.save()
    return row


def _return(row: Tool) -> bool:
    if row.gone_at is None:
        return False
    row.gone_at = None
    row.save(update_fields=["gone_at"])
    return True


def _follow(row: Tool, tool: "mcp_types.Tool") -> bool:
    news = _news(row, tool)
    for name, value in news.items():
        setattr(row, name, value)
    if news:
        row.save(update_fields=list(news))
    return bool(news)


def _news(row: Tool, tool: "mcp_types.Tool") -> dict[str, Any]:
    """By the name of the field, what the server says otherwise than before."""
    listed = {"description": _description(tool), "parameters": tool.input_schema}
    return {name: value for name, value in listed.items() if getattr(row, name) != value}


def _leave(row: Tool) -> bool:
    if row.gone_at is not None:
        return False
    row.gone_at = clock.now()
    row.save(update_fields=["gone_at"])
    return True


def _description(tool: "mcp_types.Tool") -> str:
    return (tool.description or tool.title or "").strip()


def _free_name(slug: str, remote_name: str) -> str:
    """What OpenAI takes as a function's name, and no other tool has. A second one has a suffix of its own, whatever the
    order in which a server lists them."""
    name = re.sub(r"[^a-zA-Z0-9_-]", "_", f"{slug}_{remote_name}")
    digest = hashlib.sha256(f"{slug} {remote_name}".encode()).hexdigest()
    candidates = [name] if len(name) <= _LONGEST_NAME else []
    candidates += [f"{name[: _LONGEST_NAME - 1 - length]}_{digest[:length]}" for length in (6, 12, 24)]
    taken = set(Tool.objects.filter(name__in=candidates).values_list("name", flat=True))
    return next(one for one in candidates if one not in taken)


def _names(rows: Iterable[Any]) -> tuple[str, ...]:
    return tuple(sorted(row.name for row in rows))
