"""Several who ask at once share a call, and get what was true after they asked."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import pytest

from apps.core.joined import Joined
from tests.harness import eventually


class Slow:
    """Counts its calls; the first one waits until it is let go."""

    def __init__(self) -> None:
        self.begun, self.go = threading.Event(), threading.Event()
        self._numbers = count(1)

    def __call__(self) -> int:
        number = next(self._numbers)
        self.begun.set()
        assert self.go.wait(20)
        return number


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(9) as threads:
        yield threads


def test_those_who_ask_while_a_call_is_under_way_share_the_next_one(threads: ThreadPoolExecutor) -> None:
    slow = Slow()
    joined = Joined(slow)
    first = threads.submit(joined)
    assert slow.begun.wait(20)

    asked = threading.Barrier(9)

    def ask() -> int:
        asked.wait(20)
        return joined()

    others = [threads.submit(ask) for _ in range(8)]
    asked.wait(20)
    eventually(lambda: joined._next is not None, True)
    alone = [one.done() for one in others]
    slow.go.set()

    numbers = {one.result(20) for one in others}
    assert (first.result(20), any(alone), min(numbers)) == (1, False, 2)
    assert len(numbers) <= 2  # a thread that was slow to ask may have come after the second call had begun


def test_one_after_the_other_are_calls_of_their_own() -> None:
    numbers = count(1)
    joined = Joined(lambda: next(numbers))
    assert [joined(), joined()] == [1, 2]


def test_failure_is_told_and_forgotten() -> None:
    outcomes = iter([OSError("the disk is away"), 2])

    def call() -> int:
        outcome = next(outcomes)
        if isinstance(outcome, OSError):
            raise outcome
        return outcome

    joined = Joined(call)
    with pytest.raises(OSError, match="the disk is away"):
        joined()
    assert joined() == 2
