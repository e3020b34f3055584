"""Labels of metrics are bounded: every value is a series for Prometheus to keep, and modules make up names."""

import threading
from bisect import bisect_left
from collections.abc import Callable, Iterable
from typing import Final, Generic, TypeVar

from prometheus_client import Counter, Gauge, Histogram

OTHERS: Final = "(others)"

_LONGEST: Final = 200  # characters

V = TypeVar("V")
Add = Callable[[float], None]


def told(value: str) -> str:
    """As a label can tell it: a name of half a surrogate pair would spoil the whole text for Prometheus."""
    return value[:_LONGEST].encode(errors="replace").decode()


class Values:
    """Those of one label that have a series of their own: the first ones that come."""

    def __init__(self, *, most: int = 500) -> None:
        self._most = most
        self._known: dict[str, str] = {}
        self._lock = threading.Lock()

    def label(self, value: str) -> str:
        """The value, or `(others)` when there are too many already."""
        if known := self._known.get(value):
            return known
        with self._lock:
            if len(self._known) >= self._most:
                return OTHERS
            return self._known.setdefault(value, told(value))


def adder(metric: Counter | Gauge, *labels: str) -> Add:
    """What adds to it. Its own `inc` asks each time whether it was given labels, at as much again as the adding."""
    child = metric.labels(*labels)
    add: Add = child._value.inc  # noqa: SLF001  # all that `inc` calls; the lock pins the library
    return add


def observer(metric: Histogram, *labels: str) -> Add:
    """The same for `observe`, which moreover tries one bucket after the other, and takes a lock for each of its two
    numbers: here the sum's is both's. Nobody else may add to these labels."""
    child = metric.labels(*labels)
    bounds, buckets, total = child._upper_bounds, child._buckets, child._sum  # noqa: SLF001
    lock = total._lock  # noqa: SLF001

    def observe(value: float) -> None:
        bucket = buckets[bisect_left(bounds, value)]
        with lock:
            total._value += value  # noqa: SLF001
            bucket._value += 1  # noqa: SLF001

    return observe


class Series(Generic[V]):
    """What `make` gives for the values of labels, made once: a metric's own look-up costs more than its counting.

    Of too many, those share one for which the values at the places `open` are `(others)`.
    """

    def __init__(self, make: Callable[..., V], *, open: Iterable[int], most: int = 1000) -> None:
        self._make = make
        self._open = frozenset(open)
        self._most = most
        self._known: dict[tuple[str, ...], V] = {}
        self._lock = threading.Lock()

    def of(self, *values: str) -> V:
        try:
            return self._known[values]
        except KeyError:
            return self._new(values)

    def all(self) -> list[V]:
        with self._lock:
            return list(self._known.values())

    def _new(self, values: tuple[str, ...]) -> V:
        with self._lock:
            if len(self._known) >= self._most:
                values = tuple(OTHERS if n in self._open else value for n, value in enumerate(values))
            if values not in self._known:
                self._known[values] = self._make(*map(told, values))
            return self._known[values]
