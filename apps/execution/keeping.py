"""What is kept of a run: its row and its steps, both written behind the answer."""

from time import perf_counter

from apps.execution.crash_count import crash_count
from apps.execution.models import Run
from apps.execution.order import Order
from apps.execution.recording import runs
from apps.execution.step_rows import Recorded, steps

DISK_IS_FULL = "Runs are answered and not recorded: the disk of the database is full. Make room on it."


def begin() -> None:
    """A run has begun that `keep` will be called for."""
    crash_count.begun()


async def keep(run: Run, order: Order, began: float) -> None:
    """The run has ended, that began at perf_counter's `began`. Waits while too many runs wait to be written."""
    crash_count.ended()
    order.steps.is_closed = True
    if order.calls.calls or order.steps.steps:
        steps.offer(Recorded(run, began, perf_counter(), order.calls.calls, order.steps))
    await runs.put(run)


def start() -> None:
    """Begin to write; says first what a crash has taken."""
    crash_count.start()
    runs.start()
    steps.start()


def stop() -> int:
    """Write what waits; returns how many runs were lost."""
    lost = runs.stop()
    steps.stop()
    crash_count.stop()
    return lost


def trouble() -> str:
    """A sentence for operators about what keeps runs from being written; empty while all is well."""
    return DISK_IS_FULL if runs.disk_is_full else ""
