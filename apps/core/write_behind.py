"""Rows that are written behind the answer: a bounded queue and one thread that writes them in batches."""

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from time import monotonic, sleep
from typing import Any, Generic, TypeVar
from weakref import WeakSet

import structlog
from django.db import InterfaceError, OperationalError, connection

T = TypeVar("T")
log = structlog.get_logger(__name__)

_BATCH = 500
_COMPANY = 0.5  # seconds that a first item waits for others
_PAUSE_WHEN_FULL = 0.02  # seconds
_LONGEST_BACKOFF = 5.0  # seconds
_TELL_AGAIN = 10.0  # seconds between two lines about items that are dropped
_FULL = ("SQLITE_FULL", "SQLITE_IOERR_WRITE", "53100")  # a disk, or what may be written to it

_writers: "WeakSet[BatchWriter[Any]]" = WeakSet()


def writers() -> "list[BatchWriter[Any]]":
    """Those of this process that were started, for whoever tells how they fare."""
    return list(_writers)


class BatchWriter(Generic[T]):
    """`write` gets lists of items in a thread that may use the database.

    While the database is away, items wait and `put` waits when the queue is full: nothing is lost while the process
    lives, also where who waits is cancelled. A full disk is another matter, because it may stay so for days while all
    else works: then `put` does not wait, and what finds no room is counted and dropped. An item that cannot be written
    at all is logged and dropped, so that it does not hold up the others.
    """

    def __init__(self, name: str, write: Callable[[list[T]], None], *, capacity: int = 5000) -> None:
        self.name = name
        self.dropped = 0  # items that found the queue full, and could not wait
        self.disk_is_full = False  # as the last attempt to write says
        self.lost = 0  # items that could not be written at all, or not before the end
        self._write = write
        # Which is C, and bounded by who puts something in. None wakes the thread that waits for an item, and is none.
        self._queue: queue.SimpleQueue[T | None] = queue.SimpleQueue()
        self._capacity = capacity
        self._stopping = threading.Event()
        self._deadline = float("inf")
        self._unwritten = 0
        self._refused = 0
        self._told_of = 0  # of those that were dropped
        self._told_at = float("-inf")
        self._thread: threading.Thread | None = None

    @property
    def backlog(self) -> int:
        """How many items wait, or are being written."""
        return self._queue.qsize() + self._unwritten

    def start(self) -> None:
        _writers.add(self)
        self._stopping.clear()
        self._deadline = float("inf")
        self._thread = threading.Thread(target=self._work, name=f"write-{self.name}", daemon=True)
        self._thread.start()

    async def put(self, item: T) -> bool:
        """Returns at once unless the queue is full; then as soon as there is room, or with False on a full disk.

        Whoever is cancelled while waiting leaves the item here, beyond the capacity: it is written all the same.
        """
        while self._queue.qsize() >= self._capacity:
            if self.disk_is_full:
                self._drop()
                return False
            try:
                await asyncio.sleep(_PAUSE_WHEN_FULL)
            except asyncio.CancelledError:
                self._queue.put(item)
                raise
        self._queue.put(item)
        return True

    def offer(self, item: T, *, counts: int = 1) -> bool:
        """For what may be dropped: False when the queue is full. `counts` is how many rows are dropped with it."""
        if self._queue.qsize() >= self._capacity:
            self._drop(counts)
            return False
        self._queue.put(item)
        return True

    def _drop(self, count: int = 1) -> None:
        self.dropped += count
        if monotonic() >= self._told_at + _TELL_AGAIN:
            self._tell_of_dropped()

    def _tell_of_dropped(self) -> None:
        log.error("rows_dropped", writer=self.name, count=self.dropped - self._told_of, so_far=self.dropped)
        self._told_at, self._told_of = monotonic(), self.dropped

    def stop(self, patience: float = 10.0) -> int:
        """Write what is waiting, for at most `patience` seconds; returns how many items were lost."""
        self._deadline = monotonic() + patience
        self._stopping.set()
        if self._thread:
            self._queue.put(None)
            self._thread.join(patience + 1)
        if self.dropped > self._told_of:
            self._tell_of_dropped()
        self.lost = lost = self._unwritten + self._left() + self._refused
        if lost:
            log.error("rows_lost", writer=self.name, count=lost)
        return lost

    def _left(self) -> int:
        """Takes out what was not taken in time; how many items that were."""
        left = 0
        with contextlib.suppress(queue.Empty):
            while True:
                left += self._queue.get_nowait() is not None
        return left

    def _work(self) -> None:
        try:
            while not (self._stopping.is_set() and self._queue.empty()) and monotonic() < self._deadline:
                if batch := self._next_batch():
                    self._write_until_done(batch)
        finally:
            connection.close()

    def _next_batch(self) -> list[T]:
        """Waits for a first item, then a moment for company: a transaction costs more than a row."""
        taken = [self._queue.get()]
        if self._queue.qsize() < _BATCH:  # else there is company, and who waits longer loses more in a crash
            self._stopping.wait(_COMPANY)
        with contextlib.suppress(queue.Empty):
            while len(taken) < _BATCH:
                taken.append(self._queue.get_nowait())
        return [item for item in taken if item is not None]

    def _write_until_done(self, batch: list[T]) -> None:
        backoff = 0.1
        self._unwritten = len(batch)
        while self._unwritten and monotonic() < self._deadline:
            try:
                self._write(batch)
                self._unwritten, self.disk_is_full = 0, False
            except (OperationalError, InterfaceError) as error:  # the database is away or locked: it comes back
                self.disk_is_full = _is_full(error)
                log.error("rows_not_written", writer=self.name, count=len(batch), error=str(error), again_in=backoff)
                connection.close()
                sleep(0.1 if self._stopping.is_set() else backoff)
                backoff = min(backoff * 2, _LONGEST_BACKOFF)
            except Exception as error:  # noqa: BLE001  # a row is at fault, and must not hold up the others for ever
                self._unwritten = 0
                self._write_singly(batch, error)

    def _write_singly(self, batch: list[T], error: Exception) -> None:
        if len(batch) == 1:
            self._refused += 1
            self.lost += 1
            log.error("row_refused", writer=self.name, exc_info=error)
            return
        for item in batch:
            self._write_until_done([item])


def _is_full(error: Exception) -> bool:
    """Whether the disk is, by the word of SQLite's or PostgreSQL's driver."""
    said = (getattr(error.__cause__, "sqlite_errorname", None), getattr(error.__cause__, "sqlstate", None))
    return any(one in _FULL for one in said)
