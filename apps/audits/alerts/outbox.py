"""What is to be told, written beside what it tells of: in one transaction, so that none is lost and none is told twice.

An alert is one row for each channel that wants it. `deliver.py` does the rest.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec
from django.conf import settings
from django.urls import reverse

from apps.audits.models import AlertChannel, AlertDelivery, AuditRun, Finding, at_least
from apps.audits.rule import Severity
from apps.core import clock
from apps.core.ids import new_id

FINDINGS, FAILED, BROKEN, TEST = "audit.findings", "audit.failed", "agent.broken", "test"
SHOWN = 50  # findings in one alert; the console has all


@dataclass(frozen=True, slots=True)
class Alert:
    """`key` says what it is about: a channel is told of it once. `data` is JSON, for programs."""

    event: str
    key: str
    severity: Severity
    title: str
    text: str
    data: Mapping[str, Any] = field(default_factory=dict)


def tell_findings(run: AuditRun, findings: Sequence[Finding]) -> None:
    """One alert for all of them to each channel that wants their severity."""
    for channel in _channels():
        wanted = [one for one in findings if one.severity in at_least(channel.min_severity)]
        if wanted:
            _write(channel, _findings_alert(run, wanted))


def tell_failed(run: AuditRun) -> None:
    link = console_url("audits_auditrun", run.pk)
    text = f"{run.error}\n\n{link}"
    data = {"audit": run.pk, "by": run.by, "error": run.error, "link": link}
    tell(Alert(FAILED, f"failed {run.pk}", Severity.HIGH, f"An audit failed: {run.error}"[:300], text, data))


def tell_broken(agents: Iterable[Mapping[str, Any]], now: datetime) -> None:
    """`agents` have id, state, reason, remedy and pk."""
    for agent in agents:
        link = console_url("catalog_dropin", agent["pk"])
        title = f"The agent {agent['id']} is {agent['state']}."
        text = f"{agent['reason']}\n{agent['remedy']}\n\n{link}".strip()
        data = {name: agent[name] for name in ("id", "state", "reason", "remedy")} | {"link": link}
        tell(Alert(BROKEN, f"broken {agent['id']} {now.isoformat()}", Severity.HIGH, title[:300], text, data))


def tell(alert: Alert) -> None:
    for channel in _channels():
        if alert.severity in at_least(channel.min_severity):
            _write(channel, alert)


def test_alert(channel: AlertChannel) -> AlertDelivery:
    """Written for a channel whatever it wants."""
    title = "A test of this channel from Agent Gateway."
    text = "Alerts on new findings, failed audits and broken agents arrive here."
    return _write(channel, Alert(TEST, new_id("test "), Severity.LOW, title, text))


def _channels() -> Iterator[AlertChannel]:
    yield from AlertChannel.objects.filter(enabled=True)


def _write(channel: AlertChannel, alert: Alert) -> AlertDelivery:
    now = clock.now()
    document = {"type": alert.event, "timestamp": now, "text": alert.title, "severity": alert.severity}
    row, _ = AlertDelivery.objects.get_or_create(
        channel=channel,
        key=alert.key[:200],
        defaults={
            "event": alert.event,
            "severity": alert.severity,
            "title": alert.title,
            "text": alert.text,
            "body": msgspec.json.encode({**document, "data": alert.data}).decode(),
            "created_at": now,
            "next_attempt_at": now,
        },
    )
    return row


def _findings_alert(run: AuditRun, findings: Sequence[Finding]) -> Alert:
    ordered = sorted(findings, key=lambda one: at_least(Severity.LOW).index(one.severity))
    worst = Severity(ordered[0].severity)
    count = f"{len(ordered)} new {'finding' if len(ordered) == 1 else 'findings'}"
    title = f"The audit has {count}, the worst of severity {worst}: {ordered[0]}"
    link = console_url("audits_auditrun", run.pk)
    shown = ordered[:SHOWN]
    lines = [f"{one.severity.upper():7} {one.subject}: {one.message}\n        {one.remedy}" for one in shown]
    more = [f"and {len(ordered) - SHOWN} more"] if len(ordered) > SHOWN else []
    data = {"audit": run.pk, "count": len(ordered), "link": link, "findings": [_values(one) for one in shown]}
    return Alert(FINDINGS, f"audit {run.pk}", worst, title[:300], "\n".join([*lines, *more, "", link]), data)


def _values(one: Finding) -> dict[str, Any]:
    names = ("id", "rule", "subject", "severity", "message", "remedy")
    return {name: getattr(one, name) for name in names} | {"link": console_url("audits_finding", one.pk)}


def console_url(model: str, key: object) -> str:
    """Of a page, from outside; a mere path where GATEWAY_PUBLIC_URL is not set."""
    path: str = reverse(f"admin:{model}_change", args=[key])
    return f"{settings.GATEWAY_PUBLIC_URL}{path}"


def forget_old(before: datetime) -> int:
    """Deliveries that are over; how many there were."""
    over = AlertDelivery.objects.filter(created_at__lt=before).exclude(state=AlertDelivery.State.WAITING)
    return over.delete()[0]
