"""Runs counted by ten minutes: as they are written, and as charts read them."""

from datetime import UTC, datetime, timedelta

import pytest

from apps.execution.buckets import Counts, Point, of_agents, percentile, series, total
from apps.execution.models import Outcome, Run, RunBucket
from apps.execution.recording import runs
from tests.factories import RunFactory

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
TEN = timedelta(minutes=10)


def write(*made: Run) -> None:
    runs._write(list(made))


def run(minute: float, outcome: Outcome = Outcome.COMPLETED, **fields: object) -> Run:
    made: Run = RunFactory.build(started_at=NOON + timedelta(minutes=minute), outcome=outcome, **fields)
    return made


@pytest.mark.django_db
def test_runs_are_counted_in_the_ten_minutes_in_which_they_began() -> None:
    write(
        run(9.99, cost_usd=0.5),
        run(10, Outcome.FAILED, duration_ms=100, first_event_ms=None),
        run(19, Outcome.REFUSED, duration_ms=100.1),
    )
    write(run(15, Outcome.CANCELLED, duration_ms=70_000))

    first, second, third = series(NOON, NOON + 3 * TEN, TEN)

    assert first == Point(NOON, Counts(1, 0, 0, 0, 10, 20, 0.5, 250.0, 12.5, 1, (0, 1, *[0] * 8)))
    assert second == Point(NOON + TEN, Counts(3, 1, 1, 1, 30, 60, 0.0, 70_200.1, 25.0, 2, (1, 1, *[0] * 7, 1)))
    assert third == Point(NOON + 2 * TEN, Counts())


@pytest.mark.django_db
def test_batch_that_is_written_again_counts_once() -> None:
    batch = [run(1), run(2)]

    write(*batch)
    write(*batch, run(3))

    assert Run.objects.count() == 3
    assert total(NOON, NOON + TEN).runs == 3


@pytest.mark.django_db
def test_many_agents_are_counted_in_one_batch() -> None:
    write(*(run(1, agent_id=f"default/a{number}") for number in range(100)), run(1, agent_id="default/a7"))

    assert RunBucket.objects.count() == 100
    counted = of_agents(NOON, NOON + TEN)
    assert {agent: counts.runs for agent, counts in counted.items() if counts.runs != 1} == {"default/a7": 2}


@pytest.mark.django_db
def test_steps_join_buckets_and_begin_on_a_multiple() -> None:
    write(run(5), run(65), run(70, agent_id="other/agent"))

    hours = series(NOON + timedelta(minutes=3), NOON + timedelta(hours=2), timedelta(minutes=65))
    of_one = series(NOON, NOON + timedelta(hours=2), timedelta(hours=1), agent="other/agent")

    assert [(point.began_at, point.counts.runs) for point in hours] == [(NOON, 1), (NOON + timedelta(hours=1), 2)]
    assert [point.counts.runs for point in of_one] == [0, 1]


def test_percentile_lies_between_the_bounds() -> None:
    even = (0, 10, 10, 0, 0, 0, 0, 0, 0, 0)

    assert percentile(even, 0.5) == 250
    assert percentile(even, 0.25) == 175
    assert percentile(even, 0.95) == 475
    assert percentile((0,) * 9 + (3,), 0.5) == 60_000  # so long at least
    assert percentile((0,) * 10, 0.5) is None
