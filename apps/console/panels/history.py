"""What ran over days and weeks, for the charts: what is long past is remembered, and not summed again for every look.

Thirty days of a hundred agents are 432,000 buckets, and to sum them takes half a second. Those of a day that has been
over for a day do not change any more, but for what retention deletes: they are asked for once a day.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final

from apps.execution.buckets import Counts, Point, floor, series

DAY: Final = timedelta(days=1)
_HOUR: Final = timedelta(hours=1)
_REMEMBERED: Final = 16  # stretches: of all agents, and of those that were looked at lately


@dataclass(frozen=True, slots=True)
class Range:
    """A stretch of time until now, in steps. `key` is what it is called in the page's address."""

    key: str
    words: str
    length: timedelta
    step: timedelta


RANGES: Final = (
    Range("24h", "24 hours", DAY, timedelta(minutes=10)),
    Range("7d", "7 days", 7 * DAY, _HOUR),
    Range("30d", "30 days", 30 * DAY, timedelta(hours=6)),
)


def range_of(key: str) -> Range:
    """The one that is called so; the first for any other name."""
    return next((one for one in RANGES if one.key == key), RANGES[0])


def points(of: Range, now: datetime, agent: str | None = None) -> list[Point]:
    """As buckets.series has them. One query of the last two days, and one a day of what is past."""
    if of.step < _HOUR:
        return series(now - of.length, now, of.step, agent)
    first = floor(now - of.length, of.step)
    return _in_steps([one for one in _hours(first, now, agent) if one.began_at >= first], of.step)


def _hours(first: datetime, now: datetime, agent: str | None) -> Iterator[Point]:
    yesterday = floor(now, DAY) - DAY
    yield from _past(floor(first, DAY), yesterday, agent)
    yield from series(yesterday, now, _HOUR, agent)


@lru_cache(maxsize=_REMEMBERED)
def _past(first: datetime, until: datetime, agent: str | None) -> tuple[Point, ...]:
    return tuple(series(first, until, _HOUR, agent))


forget = _past.cache_clear


def _in_steps(hours: Sequence[Point], step: timedelta) -> list[Point]:
    sums: dict[datetime, Counts] = {}
    for one in hours:
        begin = floor(one.began_at, step)
        sums[begin] = sums[begin] + one.counts if begin in sums else one.counts
    return [Point(begin, counts) for begin, counts in sums.items()]
