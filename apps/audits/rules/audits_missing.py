from collections.abc import Iterator
from datetime import timedelta

from django.urls import reverse

from apps.audits.models import AuditRun
from apps.audits.rule import Found, Rule, Severity
from apps.core import clock

_A_NIGHT = timedelta(hours=36)


def _check() -> Iterator[Found]:
    """Before this one, which is running: the last one that ended, and how long that is ago."""
    link = reverse("admin:audits_auditrun_changelist")
    ended = AuditRun.objects.filter(is_whole=True, ended_at__isnull=False)
    last = ended.order_by("-started_at").first()
    if last is None:
        return  # the first night
    if last.outcome == AuditRun.Outcome.FAILED:
        yield Found("the audit before", f"That of {last.started_at:%Y-%m-%d %H:%M} UTC failed: {last.error}", link=link)
    if clock.now() - last.started_at > _A_NIGHT:
        yield Found(
            "nights without an audit",
            f"The audit before was on {last.started_at:%Y-%m-%d %H:%M} UTC.",
            "Let a worker run (make worker), and look whether the schedule is enabled.",
            link,
        )


RULE = Rule(
    "audits-missing",
    "Audits that failed, or were not made",
    Severity.HIGH,
    "Open it to see which rule failed and why.",
    _check,
)
