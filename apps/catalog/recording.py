"""Writes what discovery found into DropIn and Diagnostic rows, for the admin and the API.

Every worker does this for itself: the rows are compared first, so that the same find written twice is one write.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import structlog
from django.db import Error, connection, transaction
from django.utils import timezone

from apps.catalog.diagnostics import Problem
from apps.catalog.generations import Found, Serving
from apps.catalog.models import Diagnostic, DropIn, State

_WRITER_LOCK = 0x0A6E17CA  # any number that is only ours: PostgreSQL's advisory lock
_FIELDS = ("folder", "name", "description", "state", "export", "model", "tools", "handoffs", "digest")
_PROBLEM_FIELDS = ("agent_id", "code", "severity", "file", "line", "reason", "remedy")

log = structlog.get_logger(__name__)


class _Recorded:
    """What this process wrote last, and whether the last attempt failed."""

    found: Found | None = None
    failing = False


def record_if_new(found: Found) -> None:
    """Write `found` unless it is what was written last. A failing database is logged once, and tried again next time.

    Discovery goes on without a database: requests are served from memory.
    """
    if found is _Recorded.found:
        return
    try:
        record(found)
        _Recorded.found, _Recorded.failing = found, False
    except Error as error:
        if not _Recorded.failing:
            log.error("discovery_not_recorded", error=str(error))
        _Recorded.failing = True
        if not connection.in_atomic_block:
            connection.close()


def record(found: Found) -> None:
    """Make the rows say what was found; agents whose folder is gone keep their row (settings hang on it)."""
    with transaction.atomic():
        _become_only_writer()
        _write_agents(found.agents)
        _write_problems(
            [*((id, one) for id, serving in found.agents.items() for one in serving.problems), *found.others]
        )


def _become_only_writer() -> None:
    """Two workers that compare and insert at once would write a diagnostic twice. SQLite has one writer anyway."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_WRITER_LOCK])


def _write_agents(agents: Mapping[str, Serving]) -> None:
    rows = {row["agent_id"]: row for row in DropIn.objects.values("agent_id", *_FIELDS)}
    changed = []
    for agent_id, serving in agents.items():
        values = _agent_values(serving)
        row = rows.get(agent_id)
        if row is None or any(row[name] != value for name, value in values.items()):
            loaded_at = timezone.now() if serving.generation else None
            changed.append(DropIn(agent_id=agent_id, loaded_at=loaded_at, **values))
    if changed:
        DropIn.objects.bulk_create(
            changed, update_conflicts=True, unique_fields=["agent_id"], update_fields=[*_FIELDS, "loaded_at"]
        )
    gone = [agent_id for agent_id, row in rows.items() if agent_id not in agents and row["state"] != State.GONE]
    for one in gone:
        DropIn.objects.filter(agent_id=one).update(state=State.GONE, digest="")


def _agent_values(serving: Serving) -> dict[str, Any]:
    values: dict[str, Any] = dict.fromkeys(("description", "export", "model", "digest"), "")
    values |= {"folder": _text(serving.folder, 500), "name": _text(serving.folder.name, 200)}
    values |= {"state": serving.state, "tools": [], "handoffs": []}
    if generation := serving.generation:
        values |= {"description": _text(generation.description), "digest": generation.digest}
        values |= {"export": generation.export.kind}
        if node := generation.node:
            values |= {
                "name": _text(node.name, 200),
                "model": _text(node.model, 200),
                "tools": [_text(name) for name in node.tools],
                "handoffs": [_text(name) for name in node.handoffs],
            }
    return values


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
