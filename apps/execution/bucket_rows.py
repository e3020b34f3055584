"""Runs counted in their ten minutes (RunBucket) as they are written, in the same transaction."""

from bisect import bisect_left
from collections.abc import Iterable
from typing import Any, Final

from django.db import connection
from django.db.backends.utils import CursorWrapper

from apps.core.rows import insert
from apps.execution.buckets import BUCKET, SUMS, TOOK_COLUMNS, floor
from apps.execution.models import TOOK_MS, Outcome, Run, RunBucket

_TABLE: Final = RunBucket._meta.db_table  # noqa: SLF001  # Django documents it
_COUNTED: Final = (*SUMS, *TOOK_COLUMNS)
_COLUMNS: Final = ("began_at", "agent_id", *_COUNTED)
_ADDED: Final = ", ".join(f"{name} = {_TABLE}.{name} + excluded.{name}" for name in _COUNTED)
_ADD: Final = f"ON CONFLICT (began_at, agent_id) DO UPDATE SET {_ADDED}"
_BY_OUTCOME: Final = {Outcome.FAILED: "failed", Outcome.REFUSED: "refused", Outcome.CANCELLED: "cancelled"}


def add(cursor: CursorWrapper, runs: Iterable[Run]) -> None:
    """Count these runs, each of which has just been inserted."""
    sums: dict[tuple[Any, str], dict[str, Any]] = {}
    for run in runs:
        key = (floor(run.started_at, BUCKET), run.agent_id)
        _count(run, sums.setdefault(key, dict.fromkeys(_COUNTED, 0)))
    # In one order, so that no two processes can wait for each other's rows.
    rows = [
        [connection.ops.adapt_datetimefield_value(began_at), agent_id, *counted.values()]
        for (began_at, agent_id), counted in sorted(sums.items(), key=lambda one: one[0])
    ]
    insert(cursor, _TABLE, _COLUMNS, rows, ending=_ADD)


def _count(run: Run, counted: dict[str, Any]) -> None:
    counted["runs"] += 1
    if by_outcome := _BY_OUTCOME.get(Outcome(run.outcome)):
        counted[by_outcome] += 1
    counted["prompt_tokens"] += run.prompt_tokens
    counted["completion_tokens"] += run.completion_tokens
    counted["cost_usd"] += run.cost_usd or 0.0
    counted["duration_ms"] += run.duration_ms
    if run.first_event_ms is not None:
        counted["first_event_ms"] += run.first_event_ms
        counted["with_first_event"] += 1
    counted[TOOK_COLUMNS[bisect_left(TOOK_MS, run.duration_ms)]] += 1
