"""One thread for many imports: nothing of one is left to the next, and one that does not end is left behind."""

import sys
import threading
from collections.abc import Iterator
from contextvars import ContextVar

import pytest

from apps.catalog.import_thread import ImportThread
from tests.catalog.conftest import until

said: ContextVar[str] = ContextVar("said", default="nothing")


@pytest.fixture
def thread() -> Iterator[ImportThread]:
    thread = ImportThread()
    yield thread
    thread.end()


def test_work_shares_a_thread_and_nothing_else(thread: ImportThread) -> None:
    seen: list[tuple[int, str, str, object]] = []

    def work() -> None:
        seen.append((threading.get_ident(), threading.current_thread().name, said.get(), sys.getprofile()))
        said.set("something")
        sys.setprofile(lambda *_: None)

    assert thread.run(work, 10, name="one")
    assert thread.run(work, 10, name="two")

    (ident, *_), _ = seen
    assert seen == [(ident, "one", "nothing", None), (ident, "two", "nothing", None)]
    assert ident != threading.get_ident()


def test_work_that_does_not_end_in_time_is_left_behind_until_it_does(thread: ImportThread) -> None:
    release, idents = threading.Event(), []

    def work() -> None:
        idents.append(threading.get_ident())
        release.wait(60)

    assert not thread.run(work, 0.05, name="stuck")
    assert thread.run(lambda: idents.append(threading.get_ident()), 10, name="next")

    assert len(set(idents)) == 2
    assert "stuck" in [one.name for one in threading.enumerate()]
    release.set()
    until(lambda: "stuck" not in [one.name for one in threading.enumerate()])


def test_ended_thread_is_gone(thread: ImportThread) -> None:
    thread.run(lambda: None, 10, name="done")
    thread.end()
    assert "done" not in [one.name for one in threading.enumerate()]
