"""Counting what may happen very often, by whom and in which minute, without much memory and without much log."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from time import monotonic

_REMEMBERED = 10_000


class Tally:
    """How often in the current minute. Of too many, those that were counted the longest ago are forgotten."""

    def __init__(self, *, remembered: int = _REMEMBERED, seconds: Callable[[], float] = monotonic) -> None:
        self._remembered = remembered
        self._seconds = seconds
        self._counts: OrderedDict[str, tuple[int, int]] = OrderedDict()  # who -> minute, how often in it
        self._lock = threading.Lock()

    def add(self, who: str = "") -> int:
        """Once more; returns how often in this minute."""
        with self._lock:
            count = self.of(who) + 1
            self._counts[who] = self._minute, count
            self._counts.move_to_end(who)
            if len(self._counts) > self._remembered:
                self._counts.popitem(last=False)
        return count

    def of(self, who: str = "") -> int:
        minute, count = self._counts.get(who, (0, 0))
        return count if minute == self._minute else 0

    @property
    def _minute(self) -> int:
        return int(self._seconds() // 60)


def is_told(count: int) -> bool:
    """Of many alike the first three have a log line, then every power of two."""
    return count <= 3 or count & (count - 1) == 0


def is_one_of_few(count: int) -> bool:
    """The same for what somebody known did, who may ask about each: the first hundred have a line."""
    return count <= 100 or is_told(count)
