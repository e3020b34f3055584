"""One call for all who ask for it at once, where it takes long and each wants what is true after they asked."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")


class Joined(Generic[T]):
    """At most one call under way, and one more for all who asked since it began: the first may have passed by what they
    want to see. What it returns or raises, all of them get."""

    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self._running = threading.Lock()
        self._choosing = threading.Lock()
        self._next: Future[T] | None = None

    def __call__(self) -> T:
        """Blocks the calling thread until a call is over that began after this one."""
        with self._choosing:
            waiting = self._next
            mine = self._next = waiting or Future()
        if waiting is None:
            self._make(mine)
        return mine.result()

    def _make(self, mine: "Future[T]") -> None:
        with self._running:
            with self._choosing:
                self._next = None
            try:
                mine.set_result(self._call())
            except BaseException as error:  # noqa: BLE001  # whatever it is, whoever waits has to know
                mine.set_exception(error)
