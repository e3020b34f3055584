"""What runs come to over time, for charts: read from the sums that are kept of every ten minutes (RunBucket).

A bucket counts the runs that began in its ten minutes, once they are written: the newest ones lag by a second, and by
as long as their runs go on. Nothing here reads a Run.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.db.models import QuerySet, Sum

from apps.execution.models import TOOK_MS, RunBucket

BUCKET: Final = timedelta(minutes=RunBucket.MINUTES)
TOOK_COLUMNS: Final = (*(f"took_{milliseconds}" for milliseconds in TOOK_MS), "took_longer")
SUMS: Final = (
    "runs", "failed", "refused", "cancelled", "prompt_tokens", "completion_tokens", "cost_usd", "duration_ms",
    "first_event_ms", "with_first_event",
)  # fmt: skip
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Counts:
    """Of some runs together. `duration_ms` and `first_event_ms` are sums; `took` is what `percentile` takes."""

    runs: int = 0
    failed: int = 0
    refused: int = 0
    cancelled: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0
    duration_ms: float = 0.0
    first_event_ms: float = 0.0
    with_first_event: int = 0
    took: tuple[int, ...] = (0,) * len(TOOK_COLUMNS)

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    @property
    def failed_share(self) -> float | None:
        """From 0 to 1; None without runs."""
        return self.failed / self.runs if self.runs else None

    @property
    def mean_ms(self) -> float | None:
        return self.duration_ms / self.runs if self.runs else None

    @property
    def mean_first_event_ms(self) -> float | None:
        return self.first_event_ms / self.with_first_event if self.with_first_event else None

    def percentile(self, q: float) -> float | None:
        """Milliseconds in which the share `q` of the runs had ended; None without runs."""
        return percentile(self.took, q)

    def __add__(self, other: "Counts") -> "Counts":
        sums = {name: getattr(self, name) + getattr(other, name) for name in SUMS}
        return Counts(**sums, took=tuple(map(sum, zip(self.took, other.took, strict=True))))


@dataclass(frozen=True, slots=True)
class Point:
    """What began from `began_at` on, for one step of a series."""

    began_at: datetime
    counts: Counts


def series(since: datetime, until: datetime, step: timedelta, agent: str | None = None) -> list[Point]:
    """A point for every step from `since` (rounded down to a step, in UTC) until `until`, also where nothing ran.

    `step` is at least ten minutes, and rounded down to a multiple of them. `agent` is one agent's id; without it, all
    runs count. One query, whose answer has a row for every ten minutes in which something ran.
    """
    step = max(BUCKET, step - step % BUCKET)
    first = floor(since, step)
    sums: dict[datetime, Counts] = {}
    for began_at, counts in _sums("began_at", first, until, None if agent is None else [agent]):
        begin = floor(began_at, step)
        sums[begin] = sums[begin] + counts if begin in sums else counts
    return [Point(moment, sums.get(moment, _NONE)) for moment in _moments(first, until, step)]


def of_agents(since: datetime, until: datetime, agents: Collection[str] | None = None) -> Mapping[str, Counts]:
    """What the runs of each agent, or of each of these, come to that began in this time, to ten minutes. One query."""
    return dict(_sums("agent_id", floor(since, BUCKET), until, agents))


def total(since: datetime, until: datetime, agent: str | None = None) -> Counts:
    """The same for all agents together, or for one."""
    found = _within(floor(since, BUCKET), until, None if agent is None else [agent]).aggregate(**_summed())
    return _counts(found) if found["runs_sum"] else _NONE


def percentile(counts: Sequence[int], q: float) -> float | None:
    """The milliseconds within which the share `q` (0 to 1) of runs took, by how many took at most TOOK_MS each.

    Between two of those it is interpolated, so that a guess is off by at most their distance. Runs that took longer
    than the last count as that. None where nothing ran.
    """
    all_runs = sum(counts)
    if not all_runs:
        return None
    wanted, below = q * all_runs, 0
    for least, most, count in zip((0, *TOOK_MS), TOOK_MS, counts, strict=False):
        if count and below + count >= wanted:
            return least + (most - least) * max(0.0, wanted - below) / count
        below += count
    return float(TOOK_MS[-1])


_NONE: Final = Counts()


def _within(since: datetime, until: datetime, agents: Collection[str] | None) -> QuerySet[RunBucket]:
    buckets = RunBucket.objects.filter(began_at__gte=since, began_at__lt=until).order_by()
    return buckets if agents is None else buckets.filter(agent_id__in=agents)


def _summed() -> Mapping[str, Sum]:
    return {f"{name}_sum": Sum(name) for name in (*SUMS, *TOOK_COLUMNS)}


def _sums(by: str, since: datetime, until: datetime, agents: Collection[str] | None) -> Iterator[tuple[Any, Counts]]:
    for row in _within(since, until, agents).values(by).annotate(**_summed()).iterator():
        yield row[by], _counts(row)


def _counts(row: Mapping[str, Any]) -> Counts:
    sums = {name: row[f"{name}_sum"] for name in SUMS}
    return Counts(**sums, took=tuple(row[f"{name}_sum"] for name in TOOK_COLUMNS))


def floor(moment: datetime, step: timedelta) -> datetime:
    """The beginning of the step (counted in UTC) that the moment lies in."""
    return moment - (moment - _EPOCH) % step


def _moments(first: datetime, until: datetime, step: timedelta) -> Iterator[datetime]:
    moment = first
    while moment < until:
        yield moment
        moment += step
