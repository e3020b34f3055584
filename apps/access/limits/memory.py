"""The store of a gateway that is one process. Nothing in it waits."""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from threading import Lock

from apps.access.limits.rules import BURST, LimitRule, Meter
from apps.access.limits.store import Past
from apps.access.limits.use import BURST_SECONDS, MINUTE_SECONDS, UNUSED, Use, Windows, windows


@dataclass(slots=True)
class _Tally:
    """Of one meter. The sums are those of `window`."""

    window: Windows
    moments: deque[float] = field(default_factory=deque)  # of the requests of the last minute, the oldest first
    running: int = 0
    requests_day: int = 0
    tokens_minute: int = 0
    tokens_day: int = 0
    usd_month: float = 0.0

    def use(self, rule: LimitRule, at: float) -> Use:
        self.roll(windows(at))
        moments = self.moments
        while moments and moments[0] <= at - MINUTE_SECONDS:
            moments.popleft()
        recent, second_from = self._last_second(at, rule.numbers[BURST])
        sums = self.requests_day, self.running, self.tokens_minute, self.tokens_day, self.usd_month
        return Use((recent, len(moments), *sums), second_from, moments[0] if moments else 0.0)

    def _last_second(self, at: float, burst: float | None) -> tuple[int, float]:
        """How many came in it, and when the first of them did. More than `burst` are not looked for."""
        count, first = 0, 0.0
        for moment in islice(reversed(self.moments), int(burst or 0)):
            if moment <= at - BURST_SECONDS:
                break
            count, first = count + 1, moment
        return count, first

    def add(self, rule: LimitRule, at: float, before: Use) -> Use:
        """One request more; how far it is used then."""
        second, minute, day, running, *ended = before.used
        second_from, minute_from = before.second_from, before.minute_from
        if rule.counts_moments:
            self.moments.append(at)
            minute, minute_from = minute + 1, minute_from or at
        if rule.numbers[BURST] is not None:
            second, second_from = second + 1, second_from or at
        self.running += 1
        self.requests_day += 1
        return Use((second, minute, day + 1, running + 1, *ended), second_from, minute_from)

    def is_over(self, now: Windows) -> bool:
        """Whether nothing of it counts any more."""
        return self.window.month != now.month and self.window.minute < now.minute - 1 and not self.running

    def roll(self, now: Windows) -> None:
        """Begin anew what began with another window."""
        before = self.window
        if now is before:
            return
        if now.minute != before.minute:
            self.tokens_minute = 0
        if now.day != before.day:
            self.requests_day = self.tokens_day = 0
        if now.month != before.month:
            self.usd_month = 0.0
        self.window = now


class MemoryStore:
    """See Store. Pages of the console look from threads, hence the lock."""

    def __init__(self) -> None:
        self._tallies: dict[str, _Tally] = {}
        self._claimed: set[int] = set()
        self._lock = Lock()

    async def take(self, meters: Sequence[Meter], at: float, lease: str) -> tuple[bool, Sequence[Use]]:  # noqa: ARG002
        with self._lock:
            tallies = [self._tally(meter, at) for meter in meters]
            uses = [tally.use(meter.rule, at) for tally, meter in zip(tallies, meters, strict=True)]
            for meter, use in zip(meters, uses, strict=True):
                for place, number in meter.numbers:
                    if use.used[place] >= number:
                        return False, uses
            return True, [
                tally.add(meter.rule, at, use) for tally, meter, use in zip(tallies, meters, uses, strict=True)
            ]

    async def look(self, meters: Sequence[Meter], at: float) -> Sequence[Use]:
        with self._lock:
            tallies = [self._tallies.get(meter.id) for meter in meters]
            return [
                tally.use(meter.rule, at) if tally else UNUSED for tally, meter in zip(tallies, meters, strict=True)
            ]

    async def settle(self, meters: Sequence[Meter], at: float, lease: str, tokens: int, usd: float) -> None:  # noqa: ARG002
        with self._lock:
            for meter in meters:
                tally = self._tally(meter, at)
                tally.roll(windows(at))
                tally.running -= 1
                tally.tokens_minute += tokens
                tally.tokens_day += tokens
                tally.usd_month += usd

    async def claim(self, limits: Iterable[int]) -> set[int]:
        new = set(limits) - self._claimed
        self._claimed |= new
        return new

    async def recall(self, past: Iterable[Past], at: float) -> None:
        with self._lock:
            for one in past:
                tally = self._tally(one.meter, at)
                tally.roll(windows(at))
                tally.requests_day += one.requests
                tally.tokens_day += one.tokens
                tally.usd_month += one.usd

    async def look_after(self, held: Mapping[str, Sequence[Meter]], at: float) -> bool:  # noqa: ARG002
        now = windows(at)
        with self._lock:
            for id in [id for id, tally in self._tallies.items() if tally.is_over(now)]:
                del self._tallies[id]
        return True

    async def close(self) -> None:
        """Memory has nothing to close."""

    def _tally(self, meter: Meter, at: float) -> _Tally:
        tally = self._tallies.get(meter.id)
        if tally is None:
            tally = self._tallies[meter.id] = _Tally(windows(at))
        return tally
