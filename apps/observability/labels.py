"""Labels of metrics are bounded: every value is a series for Prometheus to keep, and modules make up names."""

import threading
from collections.abc import Callable, Iterable
from typing import Final, Generic, TypeVar

OTHERS: Final = "(others)"

_LONGEST: Final = 200  # characters

V = TypeVar("V")


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
