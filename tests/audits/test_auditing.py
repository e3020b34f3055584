import sys
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from celery import shared_task
from celery.exceptions import SoftTimeLimitExceeded
from django.db import connection

from apps.audits import claims, findings, works
from apps.audits.auditing import CLAIM, AlreadyRunning, Progress, audit, repeat_cut_off
from apps.audits.checking import check
from apps.audits.models import AlertChannel, AlertDelivery, AuditRun, Claim, Finding, RuleResult
from apps.audits.rule import Found, NotChecked, Rule, Severity
from apps.audits.time_limit import TookTooLong
from apps.core import clock
from apps.observability import context
from tests.audits.conftest import FINDS, Subjects
from tests.harness import forked
from tests.harness.processes import ROOT, clean_environment

pytestmark = pytest.mark.django_db(transaction=True)  # rules have a connection of their own

Outcome = AuditRun.Outcome


def states() -> dict[str, str]:
    return dict(Finding.objects.values_list("subject", "state"))


def history(subject: str) -> list[str]:
    return list(Finding.objects.get(subject=subject).events.order_by("pk").values_list("what", flat=True))


def test_findings_are_new_then_still_there_then_gone_then_back(subjects: Subjects) -> None:
    seen = []
    for there in (["key a", "key b", "key a"], ["key a"], [], ["key a"]):
        subjects.there = there
        run = audit(by="ann", rules=subjects.rules)
        seen.append((states(), run.found, run.new, run.gone))

    assert seen == [
        ({"key a": "new", "key b": "new"}, 2, 2, 0),  # a subject counts once
        ({"key a": "still", "key b": "gone"}, 1, 0, 1),
        ({"key a": "gone", "key b": "gone"}, 0, 0, 1),
        ({"key a": "new", "key b": "gone"}, 1, 1, 0),
    ]
    assert history("key a") == ["new", "gone", "back"]
    row = Finding.objects.get(subject="key a")
    assert (row.remedy, row.first_seen < row.since) == ("Remove it.", True)


def test_rules_that_fail_hang_or_cannot_be_checked_stop_no_other_and_leave_their_findings(subjects: Subjects) -> None:
    subjects.there = ["key a"]
    audit(by="ann", rules=subjects.rules)
    never = threading.Event()

    def refuse() -> list[Found]:
        raise NotChecked("No index answers.")

    def fail() -> list[Found]:
        return [Found("half", "said"), *(Found(str(1 // zero), "") for zero in [0])]

    rules = {
        id: Rule(id, id, Severity.LOW, "", check)
        for id, check in {"a-fails": fail, "b-hangs": lambda: [never.wait(60)], "test-rule": refuse}.items()
    } | {"z-works": Subjects("z-works").rule}
    run = audit(by="ann", rules=rules, rule_seconds=0.3)
    never.set()

    assert list(run.results.values_list("rule", "outcome", "reason")) == [
        ("a-fails", "failed", "ZeroDivisionError: integer division or modulo by zero"),
        ("b-hangs", "failed", "It took longer than 0.3 s and was left alone."),
        ("test-rule", "not checked", "No index answers."),
        ("z-works", "checked", ""),
    ]
    assert (run.outcome, run.checked, run.not_checked, run.failed) == (Outcome.FAILED, 1, 1, 2)
    assert "the rule a-fails failed: ZeroDivisionError" in run.error
    assert states() == {"key a": "new"}


def test_findings_of_a_rule_that_is_no_more_are_gone_unless_only_some_are_checked(subjects: Subjects) -> None:
    subjects.there = ["key a"]
    audit(by="ann", rules=subjects.rules)
    other = Subjects("other-rule")

    audit(by="ann", rules={**other.rules, **subjects.rules}, only=["other-rule"])
    assert states() == {"key a": "new"}

    assert audit(by="ann", rules=other.rules).gone == 1
    assert states() == {"key a": "gone"}


def test_accepted_finding_counts_for_nothing_until_its_time_is_over(subjects: Subjects) -> None:
    subjects.there = ["key a"]
    audit(by="ann", rules=subjects.rules)
    row, now = Finding.objects.get(), clock.now()
    findings.accept(row, by="ann", reason="Meant to be.", until=now + timedelta(days=7), now=now)

    audit(by="ann", rules=subjects.rules)
    assert (Finding.objects.open(now).count(), Finding.objects.accepted(now).count()) == (0, 1)

    Finding.objects.update(accepted_until=now - timedelta(seconds=1))
    assert Finding.objects.open(now).count() == 1  # at once
    assert audit(by="ann", rules=subjects.rules).new == 1  # and told of by the next audit, once
    assert audit(by="ann", rules=subjects.rules).new == 0
    assert history("key a") == ["new", "accepted", "returned"]


def test_second_audit_at_once_is_refused_in_words(subjects: Subjects) -> None:
    def check() -> list[Found]:
        with pytest.raises(AlreadyRunning, match=r"An audit is running, since \S+ UTC, by ann\."):
            audit(by="bob", rules=subjects.rules)
        return [Found("asked", "")]

    run = audit(by="ann", rules={"outer": Rule("outer", "", Severity.LOW, "", check)})

    assert (run.outcome, run.found, AuditRun.objects.count()) == (Outcome.COMPLETED, 1, 1)


def test_audit_that_takes_too_long_for_celery_says_how_long_it_had_and_what_to_do(subjects: Subjects) -> None:
    def told_to_end(_progress: Progress) -> None:
        raise SoftTimeLimitExceeded

    @shared_task(name="tests.slow_audit", soft_time_limit=1800)  # type: ignore[untyped-decorator]
    def slow() -> None:
        audit(by="ann", rules=subjects.rules, progress=told_to_end)

    sentence = (
        "It took longer than 1800 s and was stopped. The audit's page tells the seconds of each rule; "
        "`manage.py audit` has no limit."
    )
    failed = slow.apply()
    assert (type(failed.result), str(failed.result)) == (TookTooLong, sentence)
    run = AuditRun.objects.get()
    assert (run.outcome, run.error) == (Outcome.FAILED, f"It did not come to its end: {sentence}")


def test_lines_of_a_rule_carry_what_those_of_its_audit_do() -> None:
    told: list[dict[str, Any]] = []

    def look() -> list[Found]:
        told.append(dict(context.current()))
        return []

    with context.bound(task="gateway.audit", task_id="t1"):
        check(Rule("looks", "", Severity.LOW, "", look), alive=lambda: None)

    (facts,) = told
    assert facts.items() >= {"task": "gateway.audit", "task_id": "t1"}.items()


KILLED = """
import os, signal
from apps.audits.auditing import audit
from apps.audits.rule import Found, Rule, Severity

def killed():
    os.kill(os.getpid(), signal.SIGKILL)

first = Rule("a-first", "First", Severity.HIGH, "", lambda: [Found("key a", "Found before the end.")])
audit(by="schedule", rules={"a-first": first, "b-killed": Rule("b-killed", "", Severity.LOW, "", killed)})
"""


def test_audit_whose_process_was_killed_is_said_to_have_failed_and_made_again_once(
    only_rules: Callable[[dict[str, str]], None],
) -> None:
    only_rules({"test_finds": FINDS})
    AlertChannel.objects.create(name="Log", kind="log")
    url = f"sqlite:///{connection.settings_dict['NAME']}" if connection.vendor == "sqlite" else _postgres_url()
    environment = clean_environment(DATABASE_URL=url, GATEWAY_LOG_FORMAT="json")
    ended = forked.run(["manage.py", "shell", "-c", KILLED], folder=ROOT, environment=environment, timeout=60)
    assert ended.returncode == -9
    assert repeat_cut_off() is None  # its claim holds for a minute: it could be another machine's
    Claim.objects.filter(pk=CLAIM).update(until=clock.now())

    assert works.do("repeat") == "An audit was made in the place of one that was cut off."

    again = AuditRun.objects.get(is_repeat=True)
    first = AuditRun.objects.get(is_repeat=False)
    assert (first.outcome, first.error) == (
        Outcome.FAILED,
        "Its process ended while it checked b-killed: it was stopped, or crashed.",
    )
    assert (again.outcome, again.is_repeat, again.by) == (Outcome.COMPLETED, True, "schedule")
    told = AlertDelivery.objects.filter(key__in=[f"audit {first.pk}", f"failed {first.pk}"])
    assert sorted(told.values_list("event", flat=True)) == ["audit.failed", "audit.findings"]
    assert repeat_cut_off() is None


def _postgres_url() -> str:
    known = connection.settings_dict
    return f"postgresql://{known['USER']}:{known['PASSWORD']}@{known['HOST']}:{known['PORT']}/{known['NAME']}"


def test_claim_is_one_process_s_until_it_is_given_back_or_lapses() -> None:
    one, other = claims.new_holder(), claims.new_holder()
    assert claims.take("work x", holder=one, seconds=60)
    assert not claims.take("work x", holder=other, seconds=60)

    Claim.objects.update(until=clock.now())  # its holder was not heard of
    assert claims.take("work x", holder=other, seconds=60)
    assert not claims.renew("work x", holder=one, seconds=60)
    claims.give_back("work x", holder=one, said="late")
    assert claims.is_held("work x")

    claims.give_back("work x", holder=other, said="done")
    assert not claims.take("work x", holder=one, seconds=60, at_least=600)
    assert Claim.objects.get().said == "done"


def test_claim_whose_process_is_told_to_end_says_so() -> None:
    """Celery ends a process at its last time limit so, with a status that says nothing to people."""
    with pytest.raises(SystemExit), claims.held("work x"):
        sys.exit(-241)
    kept = Claim.objects.get()
    assert (kept.said, kept.is_failed, claims.is_held("work x")) == ("Its process was told to end.", True, False)


def test_of_many_at_once_one_gets_the_claim() -> None:
    got: list[bool] = []
    at_once = threading.Barrier(6)

    def race() -> None:
        at_once.wait()
        got.append(claims.take("work x", holder=claims.new_holder(), seconds=60))
        connection.close()

    threads = [threading.Thread(target=race) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(got) == [False] * 5 + [True]


def test_result_of_each_rule_is_kept(subjects: Subjects) -> None:
    run = audit(by="ann", rules=subjects.rules)
    assert list(RuleResult.objects.values_list("run", "rule", "found")) == [(run.pk, "test-rule", 0)]
