"""GET /admin/audits and /admin/findings: when the rules were checked, and what they found."""

from datetime import datetime
from typing import Annotated, Any, Literal

from django.db.models import QuerySet
from django.http import HttpRequest
from ninja import Query, Router, Schema
from pydantic import AwareDatetime, ConfigDict, Field

from apps.admin_api.answers import REFUSALS, Page, Paging, RowId, Text, page
from apps.admin_api.authentication import OperatorAuth
from apps.audits.models import FALLING, AuditRun, Finding
from apps.core import clock

router = Router()

SeverityShown = Annotated[str, Field(json_schema_extra={"enum": [str(one) for one in FALLING]})]


class AuditShown(Schema):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": 12, "by": "schedule", "outcome": "completed", "error": "", "all_rules": True,
                    "started_at": "2026-11-25T03:00:00Z", "ended_at": "2026-11-25T03:00:09Z", "rules": 14,
                    "checked": 13, "not_checked": 1, "failed": 0, "found": 3, "new": 1, "gone": 0,
                }
            ]
        }
    )  # fmt: skip

    id: int
    by: str = Field(description="A user, `schedule` or `command`.")
    outcome: Annotated[str, Field(json_schema_extra={"enum": list(AuditRun.Outcome.values)})]
    error: str = Field(description="Why it failed.")
    all_rules: bool = Field(description="False where only some were asked for.")
    started_at: datetime
    ended_at: datetime | None
    rules: int = Field(description="That were to be checked.")
    checked: int
    not_checked: int
    failed: int
    found: int
    new: int
    gone: int


class FindingShown(Schema):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": 3, "rule": "keys-without-expiry", "severity": "medium", "subject": "key old-script",
                    "message": "It never expires.", "remedy": "Set an expiry, or issue another one.",
                    "link": "/admin/access/apikey/7/change/", "state": "still", "accepted_by": "",
                    "accepted_reason": "", "accepted_until": None, "first_seen": "2026-11-20T03:00:00Z",
                    "since": "2026-11-20T03:00:00Z", "last_seen": "2026-11-25T03:00:00Z",
                }
            ]
        }
    )  # fmt: skip

    id: int
    rule: str
    severity: SeverityShown
    subject: str = Field(description="With the rule, the finding's identity.")
    message: str
    remedy: str
    link: str = Field(description="A path of the console, or empty.")
    state: str = Field(description="new, still, accepted (for now) or gone.")
    accepted_by: str
    accepted_reason: str
    accepted_until: datetime | None
    first_seen: datetime = Field(description="Ever.")
    since: datetime = Field(description="Without a break.")
    last_seen: datetime


class AuditFilter(Schema):
    outcome: Literal["running", "completed", "failed"] | None = None
    since: AwareDatetime | None = Field(None, description="Those that were begun then or later.")


class FindingFilter(Schema):
    state: Literal["open", "new", "accepted", "gone", "all"] = "open"
    severity: Literal["high", "medium", "low"] | None = None
    rule: Text | None = Field(None, description="Its id.")
    audit: RowId | None = Field(None, description="Those that were found or had come back in that audit.")


@router.get(
    "/admin/audits",
    response={200: Page[AuditShown], **REFUSALS},
    auth=OperatorAuth("audits.view_auditrun"),
    summary="The audits, the latest first",
)
def list_audits(request: HttpRequest, wanted: Query[AuditFilter], paging: Query[Paging]) -> dict[str, Any]:  # noqa: ARG001
    """Made each night by a Celery worker, by `manage.py audit`, or from the console."""
    rows: QuerySet[AuditRun] = AuditRun.objects.order_by("-started_at", "-pk")
    if wanted.outcome is not None:
        rows = rows.filter(outcome=wanted.outcome)
    if wanted.since is not None:
        rows = rows.filter(started_at__gte=wanted.since)
    found, total = page(rows, paging)
    return {"data": [_audit(row) for row in found], "total": total}


@router.get(
    "/admin/findings",
    response={200: Page[FindingShown], **REFUSALS},
    auth=OperatorAuth("audits.view_finding"),
    summary="What the audits found",
)
def list_findings(request: HttpRequest, wanted: Query[FindingFilter], paging: Query[Paging]) -> dict[str, Any]:  # noqa: ARG001
    """Those that are open, unless another state is asked for; the latest first."""
    now = clock.now()
    rows = {
        "open": lambda: Finding.objects.open(now),
        "new": lambda: Finding.objects.open(now).filter(state=Finding.State.NEW),
        "accepted": lambda: Finding.objects.accepted(now),
        "gone": lambda: Finding.objects.filter(state=Finding.State.GONE),
        "all": Finding.objects.all,
    }[wanted.state]().order_by("-since", "-pk")
    if wanted.severity is not None:
        rows = rows.filter(severity=wanted.severity)
    if wanted.rule is not None:
        rows = rows.filter(rule=wanted.rule)
    if wanted.audit is not None:
        rows = rows.filter(events__run=wanted.audit, events__what__in=("new", "back", "returned")).distinct()
    found, total = page(rows, paging)
    return {"data": [_finding(row, now) for row in found], "total": total}


def _audit(row: AuditRun) -> AuditShown:
    names = AuditShown.model_fields.keys() - {"all_rules"}
    return AuditShown(all_rules=row.is_whole, **{name: getattr(row, name) for name in names})


def _finding(row: Finding, now: datetime) -> FindingShown:
    names = FindingShown.model_fields.keys() - {"state"}
    state = "accepted" if row.is_accepted(now) else row.state
    return FindingShown(state=state, **{name: getattr(row, name) for name in names})
