"""Writes what discovery found into DropIn and Diagnostic rows, for the admin and the API; keeps what loaded.

Every worker does this for itself: the rows are compared first, so that the same find written twice is one write.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import structlog
from django.db import Error, connection, transaction
from django.utils import timezone

from apps.catalog import scan, versions
from apps.catalog.diagnostics import Problem
from apps.catalog.generations import Found, Serving
from apps.catalog.models import Diagnostic, DropIn, State
from apps.catalog.pinned_folders import pinned_folders
from apps.catalog.serving_workers import this_worker

if TYPE_CHECKING:  # it imports the SDK, which takes seconds
    from apps.catalog.graph import Node

_WRITER_LOCK = 0x0A6E17CA  # any number that is only ours: PostgreSQL's advisory lock
_FIELDS = (
    "folder", "folder_id", "name", "description", "state", "export", "model", "tools", "handoffs", "graph",
    "digest", "disk_digest",
)  # fmt: skip
_PROBLEM_FIELDS = ("agent_id", "code", "severity", "file", "line", "reason", "remedy")

_MOST_NODES = 200  # of a graph that is kept

log = structlog.get_logger(__name__)

_keeper = versions.Keeper()


class _Recorded:
    """What this process wrote last, and whether the last attempt failed."""

    found: Found | None = None
    failing = False


def record_if_new(found: Found) -> None:
    """Write `found` unless it is what was written last; keep the next few versions; say that this worker lives.

    A failing database is logged once, and tried again next time. Discovery goes on without a database: requests are
    served from memory.
    """
    try:
        if found is not _Recorded.found:
            record(found)
            _keeper.look_at(_loaded(found))
            _Recorded.found = found
        this_worker.tell(found)
        _keeper.work()
        _Recorded.failing = False
    except Error as error:
        if not _Recorded.failing:
            log.error("discovery_not_recorded", error=str(error))
        _Recorded.failing = True
        if not connection.in_atomic_block:
            connection.close()
    pinned_folders.tidy()


def _loaded(found: Found) -> Iterator[versions.Loaded]:
    """What lies in its folder and loads, be it from a copy: another version in its place is kept already."""
    for agent_id, serving in found.agents.items():
        if serving.generation and serving.state == State.LIVE:
            digest, copy = serving.generation.digest, pinned_folders.replaced(serving.folder)
            if copy is None or copy.live_digest == digest:
                folder_id = versions.folder_id(agent_id, serving.folder)
                yield versions.Loaded(folder_id, copy.live.path if copy else serving.folder, digest)


def record(found: Found) -> None:
    """Make the rows say what was found; agents whose folder is gone keep their row (settings hang on it)."""
    with transaction.atomic():
        _become_only_writer()
        _write_agents(found.agents, {id for id, one in found.others if one.code == "denied"})
        _write_problems(
            [*((id, one) for id, serving in found.agents.items() for one in serving.problems), *found.others]
        )


def _become_only_writer() -> None:
    """Two workers that compare and insert at once would write a diagnostic twice. SQLite has one writer anyway."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_WRITER_LOCK])


def _write_agents(agents: Mapping[str, Serving], denied: Collection[str]) -> None:
    """`denied` are ids of folders."""
    rows = {row["agent_id"]: row for row in DropIn.objects.values("agent_id", "loaded_at", *_FIELDS)}
    changed = []
    for agent_id, serving in agents.items():
        values = _agent_values(serving)
        row = rows.get(agent_id)
        if row is None or any(row[name] != value for name, value in values.items()):
            changed.append(DropIn(agent_id=agent_id, loaded_at=_loaded_at(serving, row), **values))
    if changed:
        DropIn.objects.bulk_create(
            changed, update_conflicts=True, unique_fields=["agent_id"], update_fields=[*_FIELDS, "loaded_at"]
        )
    for agent_id, row in rows.items():
        state = State.DENIED if row["folder_id"] in denied else State.GONE
        if agent_id not in agents and row["state"] != state:
            DropIn.objects.filter(agent_id=agent_id).update(state=state, digest="", disk_digest="")


def _loaded_at(serving: Serving, row: Mapping[str, Any] | None) -> Any:
    """Since when the version serves; a restart is no new version."""
    if serving.generation is None or serving.state == State.BROKEN:
        return None
    return row["loaded_at"] if row and row["digest"] == serving.generation.digest else timezone.now()


def _agent_values(serving: Serving) -> dict[str, Any]:
    values: dict[str, Any] = dict.fromkeys(("description", "export", "model", "digest"), "")
    values |= {"name": _text(serving.folder.name, 200), **_folder_values(serving)}
    values |= {"state": serving.state, "tools": [], "handoffs": [], "graph": []}
    if generation := serving.generation:
        serves = serving.state != State.BROKEN  # a version may load, and no upstream have what it needs
        values |= {"description": _text(generation.description), "digest": generation.digest if serves else ""}
        values |= {"export": generation.export.kind, "graph": [_drawn(node) for node in generation.nodes[:_MOST_NODES]]}
        if node := generation.node:
            values |= {
                "name": _text(node.name, 200),
                "model": _text(node.model, 200),
                "tools": [_text(name) for name in node.tools],
                "handoffs": [_text(name) for name in node.handoffs],
            }
    return values


def _drawn(node: "Node") -> dict[str, Any]:
    """One agent of the graph as it is kept for the console."""
    as_tools = {edge.name for edge in node.edges if edge.kind == "tool"}
    return {
        "name": _text(node.name, 200),
        "model": _text(node.model, 200),
        "tools": [_text(name, 200) for name in node.tools if name not in as_tools],
        "mcp_servers": [_text(name, 200) for name in node.mcp_servers],
        "edges": [{"kind": edge.kind, "name": _text(edge.name, 200), "target": edge.target} for edge in node.edges],
    }


def _folder_values(serving: Serving) -> dict[str, Any]:
    """Of the folder in the discovery folder, whether it serves or a pinned version does in its place."""
    folder_id = versions.folder_id(serving.agent_id, serving.folder)
    pinned = pinned_folders.replaced(serving.folder)
    if pinned:
        path, digest = pinned.live.path, pinned.live_digest
    elif serving.generation and serving.state == State.LIVE:
        path, digest = serving.folder, serving.generation.digest
    else:  # the newest edit did not load
        path = serving.folder
        digest = scan.digest(scan.Folder(folder_id, path, scan.fingerprint(path)))
    return {"folder": _text(path, 500), "folder_id": folder_id, "disk_digest": digest}


def _write_problems(problems: Iterable[tuple[str, Problem]]) -> None:
    wanted = dict.fromkeys(_problem_values(agent_id, one) for agent_id, one in problems)
    kept: set[tuple[Any, ...]] = set()
    outdated = []
    for pk, *values in Diagnostic.objects.values_list("pk", *_PROBLEM_FIELDS):
        row = tuple(values)
        if row in wanted and row not in kept:
            kept.add(row)
        else:
            outdated.append(pk)
    for pk in outdated:
        Diagnostic.objects.filter(pk=pk).delete()
    Diagnostic.objects.bulk_create(
        Diagnostic(**dict(zip(_PROBLEM_FIELDS, row, strict=True))) for row in wanted if row not in kept
    )


def _problem_values(agent_id: str, one: Problem) -> tuple[Any, ...]:
    return agent_id, one.code, one.severity, _text(one.file, 500), one.line, _text(one.reason), _text(one.remedy)


def _text(value: object, limit: int | None = None) -> str:
    """What both databases take: file names may carry undecodable bytes, and PostgreSQL refuses NUL and overlength."""
    return str(value).encode(errors="replace").decode().replace("\0", "")[:limit]
