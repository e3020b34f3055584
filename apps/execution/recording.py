"""Runs, written behind the answer."""

from apps.core.write_behind import BatchWriter
from apps.execution.models import Run


def _write(runs: list[Run]) -> None:
    # A batch that failed half-way is written again: a row that is there already stays.
    Run.objects.bulk_create(runs, ignore_conflicts=True)


runs: BatchWriter[Run] = BatchWriter("runs", _write)
