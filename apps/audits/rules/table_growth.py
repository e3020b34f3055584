"""What fills the database: its size, and tables that grow without an end in sight."""

from collections.abc import Iterator
from pathlib import Path

from django.apps import apps
from django.db import connection
from django.urls import reverse

from apps.audits.rule import Found, Rule, Severity
from apps.execution.models import Recording

_MANY_ROWS = 5_000_000
_LARGE = 20 * 1024**3  # bytes
_REMEDY = "Keep runs and steps for fewer days under Recording, and let the purge run (manage.py purge_runs)."


def _check() -> Iterator[Found]:
    kept = Recording.row()
    link = reverse("admin:execution_recording_changelist")
    for name, days in (("runs", kept.keep_runs_days), ("steps", kept.keep_steps_days)):
        if days == 0:
            yield Found(f"{name} are kept for ever", f"No {name} are ever removed.", link=link)
    for table, rows in _rows():
        if rows > _MANY_ROWS:
            yield Found(f"table {table}", f"It holds about {rows:,} rows.", link=link)
    size = _size()
    if size > _LARGE:
        yield Found("database", f"It takes {size / 1024**3:,.0f} GB.", link=link)


def _rows() -> Iterator[tuple[str, int]]:
    """About how many each table has: counting them would read them."""
    tables = {model._meta.db_table for model in apps.get_models() if model._meta.managed}  # noqa: SLF001  # documented
    for table in sorted(tables):
        with connection.cursor() as cursor:
            if connection.vendor == "postgresql":
                cursor.execute("SELECT reltuples::bigint FROM pg_class WHERE oid = to_regclass(%s)", [f'"{table}"'])
            else:
                cursor.execute(f'SELECT max(rowid) FROM "{table}"')  # noqa: S608  # our own names
            row = cursor.fetchone()
        yield table, (row and row[0]) or 0


def _size() -> int:
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SELECT pg_database_size(current_database())")
            return int(cursor.fetchone()[0])
    file = Path(str(connection.settings_dict["NAME"]))
    return file.stat().st_size if file.is_file() else 0


RULE = Rule("table-growth", "Tables that grow without an end", Severity.LOW, _REMEDY, _check)
