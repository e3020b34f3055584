"""Rows of values as the database takes them, written without Django's work on each value."""

from collections.abc import Sequence
from itertools import chain
from typing import Any, Final

from django.db.backends.utils import CursorWrapper

_PARAMETERS: Final = 999  # of a statement: SQLite's limit, where it was built with the lowest


def insert(
    cursor: CursorWrapper, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], *, ending: str = ""
) -> None:
    """`ending` follows the values, such as ON CONFLICT DO NOTHING. Raises DatabaseError.

    Many rows to a statement: after each one the thread has to get the interpreter back from the event loop, at a cost
    to both, and `executemany` makes a statement of each row.
    """
    row = f"({', '.join(['%s'] * len(columns))})"
    begin = f"INSERT INTO {table} ({', '.join(columns)}) VALUES "  # noqa: S608  # names of the models' own
    at_once = _PARAMETERS // len(columns)
    for start in range(0, len(rows), at_once):
        some = rows[start : start + at_once]
        cursor.execute(f"{begin}{', '.join([row] * len(some))} {ending}", list(chain.from_iterable(some)))
