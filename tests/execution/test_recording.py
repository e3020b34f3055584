"""Runs as rows: every value arrives as it would by Django."""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from apps.execution.models import Outcome, Run
from apps.execution.recording import write_runs
from tests.factories import RunFactory

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)


def written(**fields: Any) -> Run:
    """A run that had company whose texts are plain."""
    made = RunFactory.build(**fields)
    write_runs([RunFactory.build(), made, RunFactory.build()])
    return Run.objects.get(pk=made.pk)


@pytest.mark.django_db
@pytest.mark.parametrize(
    "fields",
    [
        {"streamed": True, "is_plain": True, "tokens_estimated": True, "outcome": Outcome.WAITING},
        {"key_id": None, "first_event_ms": None, "cost_usd": None, "outcome": "failed"},
        {"started_at": NOON},
        {"started_at": NOON + timedelta(microseconds=1)},
        {"error": "x" * 100_000, "user_name": "Ωmega"},
    ],
)
def test_run_is_stored_as_it_is(fields: dict[str, Any]) -> None:
    stored = written(**fields)

    assert {name: getattr(stored, name) for name in fields} == fields


@pytest.mark.django_db
def test_run_in_another_time_zone_is_the_same_moment() -> None:
    moment = NOON.astimezone(ZoneInfo("Asia/Kolkata"))

    assert written(started_at=moment).started_at == NOON


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("odd", "fitting"), [("a\0b", "ab"), ("a\ud800b", "a?b"), ("a" * 300, "a" * 200), ("ü" * 300, "ü" * 200)]
)
def test_text_that_the_database_would_refuse_is_made_to_fit(odd: str, fitting: str) -> None:
    assert written(model=odd).model == fitting
