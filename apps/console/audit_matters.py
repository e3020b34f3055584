"""What of audits and of the scheduled work needs an operator's attention, for the dashboard."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from django.urls import reverse

from apps.audits.rule import Severity
from apps.audits.standing import Standing, keeper, standing
from apps.console.matter import Matter
from apps.core.ages import age

_LONG_AGO = timedelta(hours=50)  # two nights


def audit_matters(now: datetime) -> Iterator[Matter]:
    """In a server process, as it knew a few seconds ago: that costs the dashboard no query."""
    known = keeper.known or standing(now)
    yield from _findings(known)
    yield from _last_audit(known)
    yield from _workers(known)
    if known.given_up:
        count = f"{known.given_up} {'alert' if known.given_up == 1 else 'alerts'}"
        link = reverse("admin:audits_alertdelivery_changelist") + "?state__exact=failed"
        yield Matter(f"{count} reached nobody.", "Look why, mend the channel, and deliver them again.", link)


def _findings(known: Standing) -> Iterator[Matter]:
    for severity in (Severity.HIGH, Severity.MEDIUM):
        if count := known.count(severity):
            title = f"The audit has {count} open {'finding' if count == 1 else 'findings'} of severity {severity}."
            link = reverse("admin:audits_finding_changelist") + f"?severity__exact={severity}"
            remedy = "Each says what to do; accept those that are meant to be."
            yield Matter(title, remedy, link, is_urgent=severity is Severity.HIGH)


def _last_audit(known: Standing) -> Iterator[Matter]:
    last = known.last
    if last is None or last.ended_at is None:
        return
    link = reverse("admin:audits_auditrun_change", args=[last.pk])
    if last.outcome == last.Outcome.FAILED:
        yield Matter("The last audit failed.", last.error[:300], link)
    elif known.at - last.ended_at > _LONG_AGO:
        title = f"The last audit was {age(last.ended_at, known.at)} ago."
        yield Matter(title, "Start a Celery worker (make worker), or run manage.py audit each night.", link)


def _workers(known: Standing) -> Iterator[Matter]:
    link = reverse("admin:django_celery_beat_periodictask_changelist")
    if known.has_no_beat:
        title = "Celery workers run, but nobody tells them when: no beat has fired for minutes."
        yield Matter(title, "Start one worker without --no-beat, and look whether the schedule is enabled.", link)
    elif not known.workers and known.seen_at:
        title = f"The Celery worker has been silent for {age(known.seen_at, known.at)}."
        yield Matter(title, "Start it again (make worker); its log says why it ended.", link)
    elif not known.workers:
        remedy = "Start one beside the server: make worker. Or let cron run manage.py audit and manage.py scheduled."
        yield Matter("No Celery worker runs: nothing is done on schedule.", remedy, link, is_urgent=False)
