"""Rows that go to the driver without Django: the same values, the same errors."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from django.db import DatabaseError, IntegrityError, connection, transaction

from apps.core.rows import insert, moments

TABLE = "execution_purge"
COLUMNS = ("id", "claimed_at", "ended_at", "runs", "steps")
NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)


def rows(count: int) -> list[tuple[object, ...]]:
    (noon,) = moments([NOON])
    return [(100 + number, noon, None, 0, True + number) for number in range(count)]


def stored() -> list[tuple[object, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT id, ended_at, steps FROM {TABLE} WHERE id >= 100 ORDER BY id")
        return [tuple(row) for row in cursor.fetchall()]


@pytest.mark.django_db
@pytest.mark.parametrize("count", [0, 1, 199, 200, 500])  # 199 are a statement
def test_all_rows_are_written(count: int) -> None:
    with transaction.atomic():
        insert(TABLE, COLUMNS, rows(count))

    assert stored() == [(100 + number, None, 1 + number) for number in range(count)]


@pytest.mark.django_db
def test_row_that_is_there_is_djangos_integrity_error() -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        insert(TABLE, COLUMNS, [*rows(2), *rows(1)])

    assert stored() == []


@pytest.mark.django_db
def test_table_that_is_not_there_is_djangos_error() -> None:
    with pytest.raises(DatabaseError, match="execution_nowhere"), transaction.atomic():
        insert("execution_nowhere", COLUMNS, rows(1))


@pytest.mark.django_db
def test_ending_follows_the_values() -> None:
    with transaction.atomic():
        insert(TABLE, COLUMNS, rows(2))
        insert(TABLE, COLUMNS, rows(3), ending="ON CONFLICT DO NOTHING")

    assert len(stored()) == 3


@pytest.mark.django_db
def test_moments_are_as_django_makes_them() -> None:
    given = [NOON, NOON + timedelta(microseconds=1), NOON.astimezone(timezone(timedelta(hours=5, minutes=30)))]

    assert moments(given) == [connection.ops.adapt_datetimefield_value(moment) for moment in given]
