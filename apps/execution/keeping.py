"""What is kept of a run: its row and its steps, both written behind the answer.

A run comes first. When it is written, its trace is exported where that is wanted, and its steps go on to a writer of
their own; they are dropped where that one cannot follow: nothing waits for them, and what is dropped is counted.
"""

from typing import TYPE_CHECKING

from apps.core.write_behind import BatchWriter
from apps.execution.crash_count import crash_count
from apps.execution.models import Run
from apps.execution.order import Order
from apps.execution.recording import write_runs
from apps.execution.run_metrics import operation_of
from apps.execution.step_rows import Recorded, is_plain, write_steps
from apps.observability.telemetry import telemetry
from apps.observability.trace_context import Parent

if TYPE_CHECKING:
    from apps.observability.otlp_spans import SpanExport

DISK_IS_FULL = "Runs are answered and not recorded: the disk of the database is full. Make room on it."
_BATCHES = 40  # of runs, whose steps may wait


def begin() -> None:
    """A run has begun that `keep` will be called for."""
    crash_count.begun()


async def keep(run: Run, order: Order, began: float, parent: Parent | None = None) -> None:
    """The run has ended, that began at perf_counter's `began`, in the client's span `parent`. Waits while too many runs
    wait to be written."""
    crash_count.ended()
    order.steps.is_closed = True
    await runs.put(Recorded(run, began, order.calls.calls, order.steps, operation_of(order), parent))


def _write(recorded: list[Recorded]) -> None:
    for one in recorded:
        one.run.is_plain = is_plain(one)
    write_runs([one.run for one in recorded])
    crash_count.written(len(recorded))
    if telemetry.spans:
        _export(telemetry.spans, recorded)
    with_steps = [one for one in recorded if not one.run.is_plain and (one.calls or one.steps.steps)]
    if with_steps:
        steps.offer(with_steps, counts=sum(len(one.calls) + len(one.steps.steps) for one in with_steps))


def _export(spans: "SpanExport", recorded: list[Recorded]) -> None:
    from apps.execution.run_spans import export  # needs the packages of the extra

    export(spans, recorded)


def _write_steps(batches: list[list[Recorded]]) -> None:
    for batch in batches:
        write_steps(batch)


runs: BatchWriter[Recorded] = BatchWriter("runs", _write)
steps: BatchWriter[list[Recorded]] = BatchWriter("steps", _write_steps, capacity=_BATCHES)


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
