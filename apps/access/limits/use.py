"""How far limits are used up: the windows of time, what a store counted in them, and how it is told."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple

import msgspec

from apps.access.decide import LimitState, duration
from apps.access.limits.rules import BURST, MINUTE, QUOTAS, RUNS, TOKENS_MINUTE, USD_MONTH, Meter, Quota

MINUTE_SECONDS = 60.0
BURST_SECONDS = 1.0
_TRY_AGAIN = 1.0  # seconds; nobody knows when a run will end
_HEADERS = {
    unit: (f"x-ratelimit-limit-{unit}", f"x-ratelimit-remaining-{unit}", f"x-ratelimit-reset-{unit}")
    for unit in ("requests", "tokens")
}


class Windows(NamedTuple):
    """The calendar windows (UTC) of an instant: their numbers, and when they end, in seconds since 1970."""

    minute: int
    day: int
    month: int
    minute_ends: int
    day_ends: int
    month_ends: int


def windows(at: float) -> Windows:
    return _of_minute(int(at // 60))


@lru_cache(maxsize=8)
def _of_minute(minute: int) -> Windows:
    date = datetime.fromtimestamp(minute * 60, UTC)
    day = minute // 1440
    following = datetime(date.year + date.month // 12, date.month % 12 + 1, 1, tzinfo=UTC)
    return Windows(
        minute, day, date.year * 12 + date.month, (minute + 1) * 60, (day + 1) * 86_400, int(following.timestamp())
    )


class Use(msgspec.Struct, frozen=True):
    """What a meter has counted, in the order of QUOTAS, and since when (seconds since 1970; 0: nothing counted)."""

    used: tuple[float, ...]
    second_from: float = 0.0
    minute_from: float = 0.0


UNUSED = Use((0,) * len(QUOTAS))


class Gauge(NamedTuple):
    """A number that limits something, and how far it is used up."""

    meter: Meter
    quota: Quota
    state: LimitState


def gauges(meters: Sequence[Meter], uses: Iterable[Use], at: float) -> list[Gauge]:
    """Every number that limits something, with how far it is used up at the instant `at`."""
    told: list[Gauge] = []
    for meter, use in zip(meters, uses, strict=True):
        for place, number in meter.numbers:
            quota = QUOTAS[place]
            name = f"limit-{meter.rule.id}: {quota.span} and {meter.rule.per}"
            state = LimitState(name, quota.unit, number, use.used[place], _resets_in(place, use, at))
            told.append(Gauge(meter, quota, state))
    return told


def _resets_in(place: int, use: Use, at: float) -> float:
    """Seconds until there is room again in the quota at that place of QUOTAS."""
    if place == MINUTE:
        return max(0.0, use.minute_from + MINUTE_SECONDS - at) if use.minute_from else 0.0
    if place == BURST:
        return max(0.0, use.second_from + BURST_SECONDS - at) if use.second_from else 0.0
    if place == RUNS:
        return _TRY_AGAIN
    now = windows(at)
    if place == TOKENS_MINUTE:
        return now.minute_ends - at
    return (now.month_ends if place == USD_MONTH else now.day_ends) - at


def headers(meters: Sequence[Meter], uses: Iterable[Use], at: float) -> Mapping[str, str]:
    """OpenAI's x-ratelimit-* of whatever has the least left, for requests and for tokens. A burst is not told.

    https://platform.openai.com/docs/guides/rate-limits
    """
    tightest: dict[str, tuple[float, float, float]] = {}  # by unit: what is left, of how much, for how many seconds
    for meter, use in zip(meters, uses, strict=True):
        for place, number in meter.advertised:
            unit, left = QUOTAS[place].unit, max(0, number - use.used[place])
            if unit not in tightest or left < tightest[unit][0]:
                tightest[unit] = left, number, _resets_in(place, use, at)
    found: dict[str, str] = {}
    for unit, (left, number, seconds) in tightest.items():
        limit, remaining, reset = _HEADERS[unit]
        found[limit], found[remaining], found[reset] = str(int(number)), str(int(left)), duration(seconds)
    return found
