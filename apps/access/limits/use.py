"""How far limits are used up: the windows of time, what a store counted in them, and how it is told."""

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple

from apps.access.decide import LimitState, duration
from apps.access.limits.rules import QUOTAS, Meter, Quota

MINUTE_SECONDS = 60.0
BURST_SECONDS = 1.0
_TRY_AGAIN = 1.0  # seconds; nobody knows when a run will end


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


class Use(NamedTuple):
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
        resets = _resets_in(use, at)
        for place, number in meter.numbers:
            quota = QUOTAS[place]
            name = f"limit-{meter.rule.id}: {quota.span} and {meter.rule.per}"
            told.append(Gauge(meter, quota, LimitState(name, quota.unit, number, use.used[place], resets[place])))
    return told


def _resets_in(use: Use, at: float) -> tuple[float, ...]:
    """Seconds until there is room again, in the order of QUOTAS."""
    now = windows(at)
    minute, day, month = now.minute_ends - at, now.day_ends - at, now.month_ends - at
    second = max(0.0, use.second_from + BURST_SECONDS - at) if use.second_from else 0.0
    moving_minute = max(0.0, use.minute_from + MINUTE_SECONDS - at) if use.minute_from else 0.0
    return second, moving_minute, day, _TRY_AGAIN, minute, day, month


def headers(told: Iterable[Gauge]) -> Mapping[str, str]:
    """OpenAI's x-ratelimit-* of whatever has the least left, for requests and for tokens. A burst is not told.

    https://platform.openai.com/docs/guides/rate-limits
    """
    tightest: dict[str, LimitState] = {}
    for _, quota, state in told:
        if quota.unit in ("requests", "tokens") and quota.name != "burst":
            known = tightest.get(quota.unit)
            if known is None or state.remaining < known.remaining:
                tightest[quota.unit] = state
    found: dict[str, str] = {}
    for unit, state in tightest.items():
        found[f"x-ratelimit-limit-{unit}"] = f"{state.limit:.0f}"
        found[f"x-ratelimit-remaining-{unit}"] = f"{math.floor(state.remaining)}"
        found[f"x-ratelimit-reset-{unit}"] = duration(state.resets_in)
    return found
