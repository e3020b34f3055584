"""Rows written behind the answer: in batches, tried again, and none lost on a stop."""

import asyncio
import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path

from django.db import OperationalError

from apps.core.write_behind import BatchWriter
from tests.harness import eventually


class Table:
    """Where the writer writes; `fails` decides whether a batch raises."""

    def __init__(self, fails: Callable[[list[int]], Exception | None] = lambda _: None) -> None:
        self.rows: list[int] = []
        self.batches: list[int] = []
        self.fails = fails

    def write(self, batch: list[int]) -> None:
        if error := self.fails(batch):
            raise error
        self.rows.extend(batch)
        self.batches.append(len(batch))


def test_items_are_written_in_order_and_soon() -> None:
    table = Table()
    writer = BatchWriter("tests", table.write)
    writer.start()

    for number in range(100):
        assert writer.offer(number)

    eventually(lambda: table.rows, list(range(100)))
    assert writer.stop() == 0


def test_items_that_wait_are_written_in_one_batch() -> None:
    table = Table()
    writer = BatchWriter("tests", table.write)
    for number in range(300):
        writer.offer(number)

    writer.start()

    assert writer.stop() == 0
    assert table.batches == [300]


def test_stop_writes_what_is_waiting() -> None:
    table = Table()
    writer = BatchWriter("tests", table.write)
    writer.start()
    for number in range(1200):
        writer.offer(number)

    lost = writer.stop()

    assert (lost, table.rows) == (0, list(range(1200)))


def test_failing_database_is_tried_again_until_it_works() -> None:
    failures = iter([OperationalError("locked"), OperationalError("locked"), None])
    table = Table(lambda _: next(failures, None))
    writer = BatchWriter("tests", table.write)
    writer.start()

    writer.offer(1)
    writer.offer(2)

    eventually(lambda: table.rows, [1, 2])
    assert writer.stop() == 0


def test_stop_gives_up_after_its_patience_and_counts_what_is_lost() -> None:
    table = Table(lambda _: OperationalError("gone"))
    writer = BatchWriter("tests", table.write)
    writer.start()
    for number in range(5):
        writer.offer(number)

    assert writer.stop(patience=0.3) == 5
    assert table.rows == []


def test_item_that_cannot_be_written_does_not_hold_up_the_others() -> None:
    """A row that the database refuses for its content is refused every time."""
    table = Table(lambda batch: ValueError("a NUL character") if 3 in batch else None)
    writer = BatchWriter("tests", table.write)
    for number in range(6):
        writer.offer(number)
    writer.start()

    eventually(lambda: sorted(table.rows), [0, 1, 2, 4, 5])
    assert writer.stop(patience=1) == 1


def test_full_queue_makes_put_wait_until_there_is_room() -> None:
    gate = threading.Event()
    table = Table(lambda _: None)

    def write(batch: list[int]) -> None:
        gate.wait(10)
        table.write(batch)

    async def fill() -> bool:
        for number in range(2):
            await writer.put(number)
        waiting = asyncio.ensure_future(writer.put(2))
        await asyncio.sleep(0)
        waited = not waiting.done()
        writer.start()
        gate.set()
        await asyncio.wait_for(waiting, 10)
        return waited

    writer: BatchWriter[int] = BatchWriter("tests", write, capacity=2)
    assert asyncio.run(fill())
    assert writer.stop() == 0
    assert table.rows == [0, 1, 2]


def test_who_leaves_while_waiting_for_room_loses_nothing() -> None:
    """A client that has had enough of waiting: its run is told of all the same."""
    table = Table(lambda _: None)
    writer: BatchWriter[int] = BatchWriter("tests", table.write, capacity=1)

    async def leave() -> None:
        await writer.put(0)
        waiting = [asyncio.ensure_future(writer.put(number)) for number in (1, 2)]
        await asyncio.sleep(0)
        for one in waiting:
            one.cancel()
        done = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(one) for one in done] == [asyncio.CancelledError] * 2

    asyncio.run(leave())
    assert writer.backlog == 3
    writer.start()
    eventually(lambda: sorted(table.rows), [0, 1, 2])
    assert (writer.backlog, writer.stop()) == (0, 0)


def test_full_queue_refuses_what_may_be_dropped() -> None:
    writer: BatchWriter[int] = BatchWriter("tests", Table().write, capacity=1)

    assert (writer.offer(1), writer.offer(2)) == (True, False)


def test_writer_can_be_started_again() -> None:
    table = Table()
    writer = BatchWriter("tests", table.write)
    for number in range(2):
        writer.start()
        writer.offer(number)
        assert writer.stop() == 0

    assert table.rows == [0, 1]


def test_full_disk_keeps_nobody_waiting_and_is_written_to_again_when_there_is_room(tmp_path: Path) -> None:
    """SQLite's own word for it: a database that may have no further page is a disk without room."""
    database = sqlite3.connect(tmp_path / "full.sqlite3", check_same_thread=False, isolation_level=None)
    database.execute("CREATE TABLE items (text)")

    def limit(pages: int) -> None:
        database.execute(f"PRAGMA max_page_count = {pages}")

    def write(batch: list[str]) -> None:
        try:
            database.execute("BEGIN")
            database.executemany("INSERT INTO items VALUES (?)", [(text,) for text in batch])
            database.execute("COMMIT")
        except sqlite3.OperationalError as error:
            with contextlib.suppress(sqlite3.OperationalError):
                database.execute("ROLLBACK")
            raise OperationalError(str(error)) from error  # as Django does

    limit(2)
    writer = BatchWriter("tests", write, capacity=3)
    writer.start()
    assert asyncio.run(writer.put("x" * 20_000))
    eventually(lambda: writer.disk_is_full, True)

    kept = [asyncio.run(asyncio.wait_for(writer.put(str(number)), 10)) for number in range(6)]

    assert kept == [True, True, True, False, False, False]
    assert (writer.dropped, writer.backlog) == (3, 4)
    limit(1000)
    eventually(lambda: writer.backlog, 0, within=15)
    assert not writer.disk_is_full
    assert database.execute("SELECT count(*) FROM items").fetchone() == (4,)
    assert writer.stop() == 0
    database.close()


def test_writer_at_rest_ends_at_once_and_may_begin_again() -> None:
    table = Table()
    writer = BatchWriter("tests", table.write)
    for number in range(2):
        writer.start()
        writer.offer(number)
        eventually(lambda number=number: table.rows, list(range(number + 1)))
        began = time.monotonic()
        assert writer.stop(patience=60) == 0
        assert time.monotonic() - began < 30
    assert writer.stop() == 0  # once more than it was started
    assert writer.backlog == 0
