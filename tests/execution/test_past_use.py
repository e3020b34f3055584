"""What counts of the record of runs after a restart."""

from datetime import UTC, datetime, timedelta

import pytest

from apps.access.limits.keeper import PastUse
from apps.execution.past_use import past_use
from tests.factories import RunFactory

NOW = datetime(2026, 11, 25, 14, 30, tzinfo=UTC)
pytestmark = pytest.mark.django_db


def test_day_and_month_are_those_of_utc() -> None:
    midnight, first = NOW.replace(hour=0, minute=0), NOW.replace(day=1, hour=0, minute=0)
    for started_at in (
        midnight,
        midnight - timedelta(seconds=1),
        first,
        first - timedelta(seconds=1),
        NOW - timedelta(seconds=1),
        NOW,
    ):
        RunFactory(started_at=started_at, cost_usd=0.5)

    assert list(past_use(NOW)) == [PastUse(1, "", "default/agent", requests=2, tokens=60, usd=2.0)]


def test_keys_persons_and_agents_are_told_apart() -> None:
    RunFactory(started_at=NOW, user_id="ann")
    RunFactory(started_at=NOW, user_id="ann", agent_id="labs/planner", prompt_tokens=0, completion_tokens=0)
    RunFactory(started_at=NOW, key_id=2)
    RunFactory(started_at=NOW, key_id=None)

    assert sorted(past_use(NOW + timedelta(seconds=1))) == [
        PastUse(1, "ann", "default/agent", requests=1, tokens=30, usd=0.0),
        PastUse(1, "ann", "labs/planner", requests=1, tokens=0, usd=0.0),
        PastUse(2, "", "default/agent", requests=1, tokens=30, usd=0.0),
    ]
