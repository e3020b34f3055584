"""Old rows are taken out a little at a time, by one process of several, as often as anybody likes."""

from datetime import UTC, datetime, timedelta

import pytest
from django.core.management import call_command
from django.utils import timezone

from apps.execution import purging
from apps.execution.models import Approval, OpenTurn, Purge, Recording, Run, RunBucket, RunStep
from apps.execution.purging import Purged, Purger, purge
from tests.factories import RunFactory

pytestmark = pytest.mark.django_db
NOW = timezone.now()


def days_ago(days: float) -> datetime:
    return NOW - timedelta(days=days)


def add_step(run: Run) -> None:
    RunStep.objects.create(
        run_id=run.id, number=1, kind="model", name="m", outcome="ok", began_ms=0, run_started_at=run.started_at
    )


def keep(*, runs: int, steps: int) -> None:
    Recording(pk=Recording.ROW, keep_runs_days=runs, keep_steps_days=steps).save()


def test_rows_go_when_their_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(purging, "AT_ONCE", 2)
    keep(runs=90, steps=14)
    for age in (1, 13, 15, 89, 91, 92, 93):
        add_step(RunFactory(started_at=days_ago(age)))
    for age in (399, 401):
        RunBucket.objects.create(began_at=days_ago(age), agent_id="a/b")
    for number, age in enumerate((-1, 1)):
        common = {"agent_id": "a/b", "key_id": 1, "created_at": days_ago(age + 1), "expires_at": days_ago(age)}
        Approval.objects.create(id=f"apr_{number}", **common)
        OpenTurn.objects.create(id=f"ot_{number}", **common)
    seen: list[int] = []

    would = purge(dry_run=True)
    purged = purge(progress=lambda so_far: seen.append(so_far.rows), pause=0)

    assert would == purged == Purged(steps=5, runs=3, buckets=1, approvals=1, open_turns=1)
    assert seen == [2, 4, 5, 7, 8, 9, 10, 11]
    assert (Run.objects.count(), RunStep.objects.count(), RunBucket.objects.count()) == (4, 2, 1)
    assert (Approval.objects.get().id, OpenTurn.objects.get().id) == ("apr_0", "ot_0")
    assert purge(pause=0) == Purged()


def test_zero_keeps_for_ever_and_steps_go_with_their_runs() -> None:
    for age in (500, 1):
        add_step(RunFactory(started_at=days_ago(age)))
    keep(runs=0, steps=0)
    assert purge() == Purged()

    keep(runs=90, steps=0)
    assert purge() == Purged(runs=1, steps=1)


def test_one_process_purges_in_an_hour() -> None:
    keep(runs=90, steps=14)
    RunFactory(started_at=days_ago(100))

    Purger().look()
    RunFactory(started_at=days_ago(100))
    Purger().look()

    last = Purge.objects.get()
    assert (Run.objects.count(), last.runs, last.steps, last.ended_at is not None) == (1, 1, 0, True)
    Purge.objects.update(claimed_at=datetime.now(UTC) - timedelta(minutes=61))
    Purger().look()
    assert Run.objects.count() == 0


def test_command_says_what_it_did(capsys: pytest.CaptureFixture[str]) -> None:
    RunFactory(started_at=days_ago(100))

    call_command("purge_runs", "--dry-run")
    call_command("purge_runs")

    of = "1 runs, 0 steps, 0 sums of ten minutes, 0 approvals and 0 open turns."
    assert capsys.readouterr().out.splitlines() == [f"Would delete {of}", f"Deleted {of}"]
    assert Run.objects.count() == 0
