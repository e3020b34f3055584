"""Runs counted in their ten minutes (RunBucket) as they are written, in the same transaction."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, Final

from apps.core.rows import insert, moments
from apps.execution.buckets import BUCKET, SUMS, TOOK_COLUMNS, floor
from apps.execution.models import TOOK_MS, Outcome, Run, RunBucket

_TABLE: Final = RunBucket._meta.db_table  # noqa: SLF001  # Django documents it
_SECONDS: Final = BUCKET.total_seconds()
_COUNTED: Final = (*SUMS, *TOOK_COLUMNS)
_COLUMNS: Final = ("began_at", "agent_id", *_COUNTED)
_ADDED: Final = ", ".join(f"{name} = {_TABLE}.{name} + excluded.{name}" for name in _COUNTED)
_ADD: Final = f"ON CONFLICT (began_at, agent_id) DO UPDATE SET {_ADDED}"
_BY_OUTCOME: Final = {"failed": Outcome.FAILED, "refused": Outcome.REFUSED, "cancelled": Outcome.CANCELLED}


def add(runs: Iterable[Run]) -> None:
    """Count these runs, each of which has just been inserted in this transaction."""
    alike: dict[tuple[float, str], list[Run]] = defaultdict(list)
    for run in runs:
        alike[run.started_at.timestamp() // _SECONDS, run.agent_id].append(run)
    # In one order, so that no two processes can wait for each other's rows.
    insert(_TABLE, _COLUMNS, [_row(alike[key]) for key in sorted(alike)], ending=_ADD)


def _row(runs: list[Run]) -> list[Any]:
    began_at, counted = floor(runs[0].started_at, BUCKET), _counted(runs)
    return [*moments([began_at]), runs[0].agent_id, *(counted[name] for name in _COUNTED)]


def _counted(runs: list[Run]) -> Mapping[str, float]:
    outcomes = [run.outcome for run in runs]
    first_events = [run.first_event_ms for run in runs if run.first_event_ms is not None]
    took = [TOOK_COLUMNS[bisect_left(TOOK_MS, run.duration_ms)] for run in runs]
    return {
        "runs": len(runs),
        **{name: outcomes.count(outcome) for name, outcome in _BY_OUTCOME.items()},
        "prompt_tokens": sum(run.prompt_tokens for run in runs),
        "completion_tokens": sum(run.completion_tokens for run in runs),
        "cost_usd": sum(run.cost_usd or 0.0 for run in runs),
        "duration_ms": sum(run.duration_ms for run in runs),
        "first_event_ms": sum(first_events),
        "with_first_event": len(first_events),
        **{name: took.count(name) for name in TOOK_COLUMNS},
    }
