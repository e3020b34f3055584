import importlib
import socket
from datetime import timedelta
from io import StringIO

import pytest
from django.apps import apps
from django.core.management import CommandError, call_command
from django_celery_beat.models import PeriodicTask

from apps.audits import metrics, works
from apps.audits.models import Claim, WorkerSeen
from apps.audits.standing import Keeper, standing
from apps.audits.tasks import TASKS
from apps.core import clock
from apps.execution.models import Approval, OpenTurn
from tests.audits.conftest import Subjects

pytestmark = pytest.mark.django_db


def scheduled(*names: str) -> str:
    out = StringIO()
    call_command("scheduled", *names, stdout=out)
    return out.getvalue()


def test_work_is_done_once_in_its_time_whoever_asks() -> None:
    now = clock.now()
    known = {"agent_id": "default/a", "key_id": 1, "created_at": now}
    Approval.objects.create(id="apr_old", expires_at=now - timedelta(seconds=1), **known)
    Approval.objects.create(id="apr_new", expires_at=now + timedelta(hours=1), **known)
    OpenTurn.objects.create(id="old", encrypted_messages="", expires_at=now - timedelta(seconds=1), **known)

    assert scheduled("purge") == "purge: 2 rows removed.\n"
    assert scheduled("purge") == "purge: left out, another process does it or has just done so.\n"
    assert TASKS["purge"]() == "Another process did it."
    assert Approval.objects.get().pk == "apr_new"

    Claim.objects.update(taken_at=clock.now() - timedelta(hours=1))
    assert TASKS["purge"]() == "0 rows removed."


def test_every_work_has_a_task_and_a_first_schedule_which_operators_may_change() -> None:
    PeriodicTask.objects.all().delete()
    add = importlib.import_module("apps.audits.migrations.0002_schedules").add
    add(apps, None)
    assert {task.task for task in PeriodicTask.objects.all()} == {f"gateway.{name}" for name in works.WORKS}

    PeriodicTask.objects.filter(task="gateway.audit").update(enabled=False)
    add(apps, None)
    assert (PeriodicTask.objects.count(), PeriodicTask.objects.get(task="gateway.audit").enabled) == (6, False)


def test_list_of_works_is_printed_without_names() -> None:
    assert [line.split()[0] for line in scheduled().splitlines()] == list(works.WORKS)


def test_standing_tells_silent_workers_from_those_without_a_beat() -> None:
    now = clock.now()
    assert (standing(now).workers, standing(now).seen_at) == (0, None)

    seen = {"started_at": now - timedelta(hours=1)}
    WorkerSeen.objects.create(worker="box:1", seen_at=now - timedelta(minutes=10), **seen)
    assert (standing(now).workers, standing(now).seen_at) == (0, now - timedelta(minutes=10))

    WorkerSeen.objects.create(worker="box:2", seen_at=now, **seen)
    assert (standing(now).workers, standing(now).has_no_beat) == (1, True)

    Claim.objects.create(name="work alerts", taken_at=now - timedelta(minutes=1), until=now)
    assert not standing(now).has_no_beat


@pytest.mark.django_db(transaction=True)
def test_metrics_tell_what_stands(subjects: Subjects) -> None:
    from apps.audits.auditing import audit

    subjects.there = ["key a", "key b"]
    audit(by="ann", rules=subjects.rules)
    WorkerSeen.objects.create(worker="box:1", started_at=clock.now(), seen_at=clock.now())
    keeper = Keeper()
    keeper.look()
    assert keeper.known

    samples = {one.name: (one.labels, one.value) for family in metrics.families(keeper.known) for one in family.samples}
    assert samples["gateway_audit_findings"] == ({"rule": "test-rule", "severity": "high"}, 2)
    assert samples["gateway_audit_last_run_timestamp_seconds"][1] == pytest.approx(clock.now().timestamp(), abs=60)
    assert samples["gateway_audit_last_run_failed"][1] == 0
    assert samples["gateway_celery_workers"][1] == 1
    assert 0 <= samples["gateway_celery_worker_seen_seconds"][1] < 60


def test_health_of_a_container_tells_of_the_worker_of_this_host() -> None:
    now, host = clock.now(), socket.gethostname()
    WorkerSeen.objects.create(worker="elsewhere:1", started_at=now, seen_at=now)
    mine = WorkerSeen.objects.create(worker=f"{host}:1", started_at=now, seen_at=now - timedelta(minutes=1))
    with pytest.raises(CommandError, match=f"^No worker of {host} was heard of lately. Start one"):
        call_command("worker", "--health")

    WorkerSeen.objects.filter(pk=mine.pk).update(seen_at=clock.now())
    out = StringIO()
    call_command("worker", "--health", stdout=out)
    assert out.getvalue() == f"The worker of {host} is well.\n"
