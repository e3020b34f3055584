"""How large the database is: noted with each whole audit, so that the next ones see what grows."""

import shutil
from pathlib import Path
from typing import Any

from django.apps import apps
from django.db import connection


def measured() -> dict[str, Any]:
    """`bytes` of the database and `tables`, about how many rows each has: counting them would read them."""
    return {"bytes": _bytes(), "tables": {table: _rows(table) for table in _tables()}}


def room() -> int | None:
    """Free bytes of the database's disk; None where a server keeps it."""
    file = _file()
    return shutil.disk_usage(file.parent).free if file else None


def _tables() -> list[str]:
    return sorted({model._meta.db_table for model in apps.get_models() if model._meta.managed})  # noqa: SLF001  # documented


def _rows(table: str) -> int:
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SELECT reltuples::bigint FROM pg_class WHERE oid = to_regclass(%s)", [f'"{table}"'])
        else:
            cursor.execute(f'SELECT max(rowid) - min(rowid) + 1 FROM "{table}"')  # noqa: S608  # our own names
        row = cursor.fetchone()
    return max(0, (row and row[0]) or 0)


def _bytes() -> int:
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_database_size(current_database())")
            return int(cursor.fetchone()[0])
    file = _file()
    return file.stat().st_size if file else 0


def _file() -> Path | None:
    if connection.vendor != "sqlite":
        return None
    file = Path(str(connection.settings_dict["NAME"]))
    return file if file.is_file() else None
