import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.messages import get_messages
from django.test import Client
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from apps.audits.alerts import webhook
from apps.audits.models import AlertChannel, AlertDelivery, AuditRun, Claim, Finding, RuleResult, WorkerSeen
from apps.console.audit_matters import audit_matters
from apps.core import clock
from tests.audits.conftest import FINDS, only_rules  # noqa: F401  # a fixture
from tests.console.test_upstreams import CONFIRM
from tests.harness import eventually

FINDINGS, AUDITS = "/admin/audits/finding/", "/admin/audits/auditrun/"
CHANNELS, SCHEDULE = "/admin/audits/alertchannel/", "/admin/django_celery_beat/periodictask/"

pytestmark = pytest.mark.django_db


def finding(number: int, **fields: Any) -> Finding:
    now = clock.now()
    known = {"rule": f"rule-{number}", "title": "Keys", "severity": "high", "message": f"Message {number}."}
    seen = {"first_seen": now, "since": now, "last_seen": now}
    row: Finding = Finding.objects.create(subject=f"key {number}", **{**known, **seen, **fields})
    return row


def audited(number: int, **fields: Any) -> AuditRun:
    now = clock.now()
    known = {"by": "ann", "started_at": now - timedelta(minutes=number), "ended_at": now, "outcome": "completed"}
    run = AuditRun.objects.create(**{**known, **fields})
    RuleResult.objects.create(run=run, rule="a-rule", title="A rule", outcome="not checked", reason="No index.")
    return run


def delivery(number: int) -> AlertDelivery:
    channel, _ = AlertChannel.objects.get_or_create(name="Log", kind="log")
    times = {"created_at": clock.now(), "next_attempt_at": clock.now()}
    return AlertDelivery.objects.create(channel=channel, key=f"k{number}", severity="high", title="Told", **times)


@pytest.mark.parametrize("rows", [1, 3])
def test_lists_cost_the_same_for_any_number_of_rows(
    admin_client: Client, count_queries: Callable[..., int], rows: int
) -> None:
    every = IntervalSchedule.objects.create(every=7, period="minutes")
    PeriodicTask.objects.all().delete()
    for number in range(rows):
        finding(number)
        audited(number)
        delivery(number)
        AlertChannel.objects.create(name=f"c{number}", kind="log")
        PeriodicTask.objects.create(name=f"t{number}", task="gateway.purge", interval=every)

    def cost(path: str) -> int:
        return count_queries(lambda: admin_client.get(path))

    lists = (FINDINGS, AUDITS, CHANNELS, "/admin/audits/alertdelivery/", SCHEDULE)
    assert [cost(path) for path in lists] == [6, 6, 5, 7, 6]


def test_findings_are_the_open_ones_worst_first_with_their_way_out(admin_client: Client) -> None:
    finding(1, severity="low", remedy="Mend it.", link="/admin/access/apikey/")
    finding(2, severity="high")
    finding(3, state="gone")
    finding(4, accepted_until=clock.now() + timedelta(days=1))

    page = admin_client.get(FINDINGS)
    assert [row.subject for row in page.context["cl"].result_list] == ["key 2", "key 1"]
    assert 'Message 1. Mend it. <a href="/admin/access/apikey/"' in page.content.decode()
    page = admin_client.get(f"{FINDINGS}?state=gone")
    assert [row.subject for row in page.context["cl"].result_list] == ["key 3"]


def test_finding_is_accepted_with_a_reason_and_taken_back(admin_client: Client) -> None:
    row = finding(1)
    accept = f"{FINDINGS}{row.pk}/accept/"
    admin_client.post(accept, CONFIRM | {"reason": "", "days": 30})
    assert not Finding.objects.get().is_accepted(clock.now())

    admin_client.post(accept, CONFIRM | {"reason": "Meant to be.", "days": 30})
    row.refresh_from_db()
    assert (row.accepted_by, row.accepted_reason) == ("admin", "Meant to be.")
    assert row.accepted_until
    assert timedelta(days=29) < row.accepted_until - clock.now() <= timedelta(days=30)
    assert "Meant to be." in admin_client.get(f"{FINDINGS}{row.pk}/change/").content.decode()

    admin_client.post(f"{FINDINGS}{row.pk}/take_back/", CONFIRM)
    assert not Finding.objects.get().is_accepted(clock.now())
    assert list(row.events.values_list("what", flat=True)) == ["returned", "accepted"]


@pytest.mark.django_db(transaction=True)
def test_run_now_without_a_worker_runs_here_and_says_so(
    admin_client: Client,
    only_rules: Callable[[dict[str, str]], None],  # noqa: F811
) -> None:
    only_rules({"test_finds": FINDS})
    answer = admin_client.post(f"{AUDITS}run_now/", CONFIRM)

    assert [str(one) for one in get_messages(answer.wsgi_request)] == [
        "The audit runs in this server process, because no Celery worker is seen."
    ]
    outcomes = AuditRun.objects.values_list("by", "outcome")
    eventually(lambda: list(outcomes.all()), [("admin", "completed")], within=20)
    eventually(lambda: Claim.objects.get(pk="audit").ended_at is not None, True)


def test_page_of_an_audit_tells_of_each_rule_and_of_one_that_was_cut_off(admin_client: Client) -> None:
    run = audited(1, outcome="running", ended_at=None, rules=2, current_rule="b-rule")
    told = admin_client.get(f"{AUDITS}{run.pk}/change/").content.decode()
    assert "Cut off" in told
    assert "No index." in told
    assert f"{AUDITS}{run.pk}/progress/" not in told  # asks no more

    later = clock.now() + timedelta(minutes=1)
    Claim.objects.create(pk="audit", holder="x", taken_at=clock.now(), until=later)
    part = admin_client.get(f"{AUDITS}{run.pk}/progress/").content.decode()
    assert ("Checks b-rule." in part, 'value="50"' in part, "hx-get" in part) == (True, True, True)


def test_channel_makes_a_secret_that_is_shown_once(admin_client: Client) -> None:
    form = {"name": "On-call", "kind": "webhook", "min_severity": "high", "enabled": "on"}
    wrong = admin_client.post(f"{CHANNELS}add/", form)
    assert wrong.context["adminform"].form.errors["url"] == [
        "A webhook needs the address that it is sent to: https://…"
    ]

    saved = admin_client.post(f"{CHANNELS}add/", {**form, "url": "https://hooks.example.com/x"})
    channel = AlertChannel.objects.get()
    assert webhook.is_secret(channel.secret)
    assert f"Its signing secret, shown this once: {channel.secret}" in [
        str(one) for one in get_messages(saved.wsgi_request)
    ]
    page = admin_client.get(f"{CHANNELS}{channel.pk}/change/", follow=True)
    assert channel.secret not in page.content.decode().replace("shown this once: " + channel.secret, "")
    assert channel.encrypted_secret not in page.content.decode()


def test_test_alert_is_sent_from_the_channel_s_page(admin_client: Client) -> None:
    channel = AlertChannel.objects.create(name="Log", kind="log")
    admin_client.post(f"{CHANNELS}{channel.pk}/send_test/", CONFIRM)
    assert AlertDelivery.objects.values_list("event", "state").get() == ("test", "delivered")


def test_list_of_no_alerts_leads_to_what_makes_them(admin_client: Client) -> None:
    page = admin_client.get("/admin/audits/alertdelivery/").content.decode()
    (words,) = re.findall(r"No alerts yet</h2>\s*<p[^>]*>(.*?)</p>", page, re.DOTALL)
    assert re.findall(r'href="([^"]+)"', words) == [CHANNELS, AUDITS]


def test_schedule_is_edited_with_one_kind_of_time(admin_client: Client) -> None:
    PeriodicTask.objects.all().delete()
    every = IntervalSchedule.objects.create(every=7, period="minutes")
    form = {"name": "Purge", "task": "gateway.purge", "enabled": "on", "expire_seconds": "60"}
    wrong = admin_client.post(f"{SCHEDULE}add/", form)
    assert wrong.context["adminform"].form.errors["interval"][0] == "Choose one: every so often, or by the clock."

    admin_client.post(f"{SCHEDULE}add/", {**form, "interval": every.pk})
    task = PeriodicTask.objects.get()
    assert (task.task, task.interval, task.enabled) == ("gateway.purge", every, True)

    Claim.objects.create(pk="work purge", taken_at=clock.now(), until=clock.now(), ended_at=clock.now(), said="7 runs.")
    assert "7 runs." in admin_client.get(SCHEDULE).content.decode()
    admin_client.post(SCHEDULE, {"action": "disable", "_selected_action": task.pk})
    assert not PeriodicTask.objects.get().enabled


def test_matters_name_findings_failures_and_workers() -> None:
    now = clock.now()

    def matters() -> list[str]:
        return [one.title.replace("\xa0", " ") for one in audit_matters(now)]

    assert matters() == ["No Celery worker runs: nothing is done on schedule."]

    WorkerSeen.objects.create(worker="box:1", started_at=now - timedelta(hours=2), seen_at=now - timedelta(hours=1))
    audited(1, outcome="failed", error="It fell.")
    finding(1)
    finding(2, severity="low")
    AlertDelivery.objects.filter(pk=delivery(1).pk).update(state="failed")
    assert matters() == [
        "The audit has 1 open finding of severity high.",
        "The last audit failed.",
        "The Celery worker has been silent for 1 hour.",
        "1 alert reached nobody.",
    ]

    AuditRun.objects.update(outcome="completed", ended_at=now - timedelta(days=3))
    WorkerSeen.objects.update(seen_at=now)
    Finding.objects.all().delete()
    AlertDelivery.objects.all().delete()
    assert matters() == [
        "The last audit was 3 days ago.",
        "Celery workers run, but nobody tells them when: no beat has fired for minutes.",
    ]
