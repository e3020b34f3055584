"""Runs, written behind the answer."""

from typing import Any

from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper
from django.db.models import CharField, DateTimeField, TextField

from apps.core.write_behind import BatchWriter
from apps.execution import bucket_rows
from apps.execution.models import Run

_FIELDS = Run._meta.concrete_fields  # noqa: SLF001  # Django documents it
_TEXTS = {field.attname: field.max_length for field in _FIELDS if isinstance(field, CharField | TextField)}
_MOMENTS = frozenset(field.attname for field in _FIELDS if isinstance(field, DateTimeField))
_COLUMNS = ", ".join(str(field.column) for field in _FIELDS)
_ROW = f"({', '.join(['%s'] * len(_FIELDS))})"
_ROWS_AT_ONCE = 999 // len(_FIELDS)  # SQLite's limit of parameters


def _write(runs: list[Run]) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        for start in range(0, len(runs), _ROWS_AT_ONCE):
            written = _insert(cursor, runs[start : start + _ROWS_AT_ONCE])
            bucket_rows.add(cursor, written)


def _insert(cursor: CursorWrapper, runs: list[Run]) -> list[Run]:
    """One statement for many rows, as `bulk_create` makes it, without its preparing every value at thrice the cost.

    Returns those that are new. A batch may have been written although the database's word of it was lost, and is then
    written again: a row that is there already stays, and is not counted twice.
    """
    rows = ", ".join([_ROW] * len(runs))
    cursor.execute(
        f"INSERT INTO {Run._meta.db_table} ({_COLUMNS}) VALUES {rows} ON CONFLICT DO NOTHING RETURNING id",  # noqa: S608, SLF001
        [_stored(run, field.attname) for run in runs for field in _FIELDS],
    )
    new = {row[0] for row in cursor.fetchall()}
    return [run for run in runs if run.id in new]


def _stored(run: Run, name: str) -> Any:
    value = getattr(run, name)
    if name in _TEXTS:
        return _fitting(value, _TEXTS[name])
    return connection.ops.adapt_datetimefield_value(value) if name in _MOMENTS else value


def _fitting(text: str, limit: int | None) -> str:
    """Names and messages come from servers and modules; PostgreSQL refuses NUL, half surrogates and overlength."""
    return text.encode(errors="replace").decode().replace("\0", "")[:limit]


runs: BatchWriter[Run] = BatchWriter("runs", _write)
