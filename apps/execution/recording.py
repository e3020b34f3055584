"""Runs, written behind the answer."""

from django.db.models import CharField, TextField

from apps.core.write_behind import BatchWriter
from apps.execution.models import Run

_TEXTS = {
    field.attname: field.max_length
    for field in Run._meta.fields  # noqa: SLF001  # Django documents it
    if isinstance(field, CharField | TextField)
}


def _write(runs: list[Run]) -> None:
    for run in runs:
        _fit(run)
    # A batch that failed half-way is written again: a row that is there already stays.
    Run.objects.bulk_create(runs, ignore_conflicts=True)


def _fit(run: Run) -> None:
    """Names and messages come from servers and modules; PostgreSQL refuses NUL, half surrogates and overlength."""
    for name, limit in _TEXTS.items():
        text: str = getattr(run, name)
        setattr(run, name, text.encode(errors="replace").decode().replace("\0", "")[:limit])


runs: BatchWriter[Run] = BatchWriter("runs", _write)
