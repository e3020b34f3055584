"""Celery's time limit of a task, in words: its own exception says neither how long it was nor what to do.

Commands do the same work without one.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from celery import current_task
from celery.exceptions import SoftTimeLimitExceeded


class TookTooLong(Exception):
    """It says how many seconds there were, and what to do."""

    def __init__(self, seconds: float, remedy: str) -> None:
        super().__init__(seconds, remedy)  # as they are given: Celery makes it anew from its arguments
        self.seconds = seconds
        self.remedy = remedy

    def __str__(self) -> str:
        return f"It took longer than {self.seconds:g} s and was stopped. {self.remedy}"


@contextmanager
def within_limit(remedy: str) -> Iterator[None]:
    """Raises TookTooLong when the task that runs is told to end."""
    try:
        yield
    except SoftTimeLimitExceeded as error:
        raise TookTooLong(_seconds(), remedy) from error


def _seconds() -> float:
    """Whoever sends a task may set another limit than its own."""
    _, sent = current_task.request.timelimit or (None, None)
    return float(sent or current_task.soft_time_limit)
