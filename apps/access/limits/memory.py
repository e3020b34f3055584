"""The store of a gateway that is one process. Nothing in it waits."""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from threading import Lock

from apps.access.limits.rules import BURST, DAY, MINUTE, RUNS, TOKENS_DAY, TOKENS_MINUTE, USD_MONTH, LimitRule, Meter
from apps.access.limits.store import Past
from apps.access.limits.use import BURST_SECONDS, MINUTE_SECONDS, UNUSED, Use, Windows, windows


@dataclass(slots=True)
class _Tally:
    """Of one meter. `used` is in the order of QUOTAS: its sums are those of `window`, the requests of the last minute
    and second those of the last `advance`."""

    window: Windows
    used: list[float] = field(default_factory=lambda: list(UNUSED.used))
    moments: deque[float] = field(default_factory=deque)  # of the requests of the last minute, the oldest first
    second_from: float = 0.0

    def advance(self, rule: LimitRule, now: Windows, at: float) -> None:
        """Drop what counts no more at the instant `at`, which lies in the windows `now`."""
        self.roll(now)
        moments, burst = self.moments, rule.numbers[BURST]
        while moments and moments[0] <= at - MINUTE_SECONDS:
            moments.popleft()
        self.used[MINUTE] = len(moments)
        if burst is not None:
            self.used[BURST], self.second_from = self._last_second(at, int(burst))

    def _last_second(self, at: float, burst: int) -> tuple[int, float]:
        """How many came in it, and when the first of them did. More than `burst` are not looked for."""
        count, first = 0, 0.0
        for moment in islice(reversed(self.moments), burst):
            if moment <= at - BURST_SECONDS:
                break
            count, first = count + 1, moment
        return count, first

    def add(self, rule: LimitRule, at: float) -> None:
        """One request more."""
        used = self.used
        if rule.counts_moments:
            self.moments.append(at)
            used[MINUTE] += 1
        if rule.numbers[BURST] is not None:
            used[BURST] += 1
            self.second_from = self.second_from or at
        used[RUNS] += 1
        used[DAY] += 1

    def use(self) -> Use:
        return Use(tuple(self.used), self.second_from, self.moments[0] if self.moments else 0.0)

    def is_over(self, now: Windows) -> bool:
        """Whether nothing of it counts any more."""
        return self.window.month != now.month and self.window.minute < now.minute - 1 and not self.used[RUNS]

    def roll(self, now: Windows) -> None:
        """Begin anew what began with another window."""
        before = self.window
        if now is before:
            return
        if now.minute != before.minute:
            self.used[TOKENS_MINUTE] = 0
        if now.day != before.day:
            self.used[DAY] = self.used[TOKENS_DAY] = 0
        if now.month != before.month:
            self.used[USD_MONTH] = 0
        self.window = now


class MemoryStore:
    """See Store. Pages of the console look from threads, hence the lock."""

    def __init__(self) -> None:
        self._tallies: dict[str, _Tally] = {}
        self._claimed: set[int] = set()
        self._lock = Lock()

    async def take(self, meters: Sequence[Meter], at: float, lease: str) -> tuple[bool, Sequence[Use]]:  # noqa: ARG002
        now, taken = windows(at), True
        with self._lock:
            tallies: list[_Tally] = []
            for meter in meters:
                tally = self._tally(meter, now)
                tally.advance(meter.rule, now, at)
                tallies.append(tally)
                for place, number in meter.numbers:
                    if tally.used[place] >= number:
                        taken = False
            if taken:
                for tally, meter in zip(tallies, meters, strict=True):
                    tally.add(meter.rule, at)
            return taken, [tally.use() for tally in tallies]

    async def look(self, meters: Sequence[Meter], at: float) -> Sequence[Use]:
        now, uses = windows(at), list[Use]()
        with self._lock:
            for meter in meters:
                if tally := self._tallies.get(meter.id):
                    tally.advance(meter.rule, now, at)
                uses.append(tally.use() if tally else UNUSED)
        return uses

    async def settle(self, meters: Sequence[Meter], at: float, lease: str, tokens: int, usd: float) -> None:  # noqa: ARG002
        now = windows(at)
        with self._lock:
            for meter in meters:
                tally = self._tally(meter, now)
                tally.roll(now)
                tally.used[RUNS] -= 1
                tally.used[TOKENS_MINUTE] += tokens
                tally.used[TOKENS_DAY] += tokens
                tally.used[USD_MONTH] += usd

    async def claim(self, limits: Iterable[int]) -> set[int]:
        new = set(limits) - self._claimed
        self._claimed |= new
        return new

    async def recall(self, past: Iterable[Past], at: float) -> None:
        now = windows(at)
        with self._lock:
            for one in past:
                tally = self._tally(one.meter, now)
                tally.roll(now)
                tally.used[DAY] += one.requests
                tally.used[TOKENS_DAY] += one.tokens
                tally.used[USD_MONTH] += one.usd

    async def look_after(self, held: Mapping[str, Sequence[Meter]], at: float) -> bool:  # noqa: ARG002
        now = windows(at)
        with self._lock:
            for id in [id for id, tally in self._tallies.items() if tally.is_over(now)]:
                del self._tallies[id]
        return True

    async def close(self) -> None:
        """Memory has nothing to close."""

    def _tally(self, meter: Meter, now: Windows) -> _Tally:
        tally = self._tallies.get(meter.id)
        if tally is None:
            tally = self._tallies[meter.id] = _Tally(now)
        return tally
