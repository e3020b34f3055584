"""Rows of values as the database takes them, written without Django's work on each value."""

import sqlite3
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from itertools import chain
from typing import Any, Final

from django.db import connection

_PARAMETERS: Final = 999  # of a statement: SQLite's limit, where it was built with the lowest

# For what is neither text nor number, Python's sqlite3 looks in three places for somebody who makes one of it, and only
# when it has found nobody, at five times the cost of being told so, takes it as it is.
sqlite3.register_adapter(bool, int)
sqlite3.register_adapter(type(None), lambda none: none)


def insert(table: str, columns: tuple[str, ...], rows: Sequence[Sequence[Any]], *, ending: str = "") -> None:
    """Within a transaction. `ending` follows the values, such as ON CONFLICT DO NOTHING. Raises DatabaseError.

    Many rows to a statement: after each one the thread has to get the interpreter back from the event loop, at a cost
    to both, and `executemany` makes a statement of each row. By the driver itself: Django's cursor looks for %s in
    all of the statement to write ? for SQLite.
    """
    at_once = _PARAMETERS // len(columns)
    with connection.wrap_database_errors:
        for start in range(0, len(rows), at_once):
            some = rows[start : start + at_once]
            connection.connection.execute(
                _statement(table, columns, len(some), ending), list(chain.from_iterable(some))
            )


@lru_cache(maxsize=256)
def _statement(table: str, columns: tuple[str, ...], rows: int, ending: str) -> str:
    place = "?" if connection.vendor == "sqlite" else "%s"
    row = f"({', '.join([place] * len(columns))})"
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES {', '.join([row] * rows)} {ending}"  # noqa: S608  # names of the models' own


def moments(values: Iterable[datetime]) -> list[Any]:
    """What Django's own `adapt_datetimefield_value` makes of them, of those in UTC at a third of the cost."""
    adapted = connection.ops.adapt_datetimefield_value
    if connection.vendor != "sqlite":
        return list(map(adapted, values))
    return [str(value)[: -len("+00:00")] if value.tzinfo is UTC else adapted(value) for value in values]
