"""GET /admin/agents/errors: what is wrong with the agents now, and what went wrong lately."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Literal

from django.db.models import Q, QuerySet
from django.http import HttpRequest
from ninja import Query, Router, Schema
from pydantic import AwareDatetime, ConfigDict, Field

from apps.admin_api.answers import REFUSALS, Page, Paging, Text
from apps.admin_api.authentication import OperatorAuth
from apps.catalog.presentation import discovered
from apps.observability.models import ErrorEvent

router = Router()

Severity = Literal["error", "warning"]
Stage = Literal["authenticate", "resolve", "authorise", "execute", "stream", "record", "discover"]


class AgentError(Schema):
    """A diagnostic, which stands until it is mended (docs/diagnostics.md), or a failure that happened (docs/errors.md).

    A diagnostic that has also been counted as a failure is told once, with its count.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "kind": "failure",
                    "stage": "execute",
                    "agent": "default/weather",
                    "subject": "default/weather",
                    "state": "",
                    "severity": None,
                    "code": "upstream_timeout",
                    "reason": "The upstream 'ollama' did not answer within 60 s.",
                    "remedy": "Give the upstream or the run more time on its page, or choose a faster model.",
                    "file": "",
                    "line": None,
                    "count": 3,
                    "first_at": "2026-11-25T11:58:00Z",
                    "last_at": "2026-11-25T12:00:00Z",
                    "request_id": "req_0123456789abcdef0123456789abcdef",
                    "facts": {"agent": "default/weather", "upstream": "ollama"},
                    "traceback": "",
                }
            ]
        }
    )

    kind: Literal["diagnostic", "failure"]
    stage: str = Field(description="Where it happened; discover for diagnostics.")
    agent: str = Field(description="Empty where it concerns none.")
    subject: str = Field(description="Whom or what it concerns: an agent, an upstream, a key, a tool.")
    state: str = Field(
        description="Of a diagnostic: live, stale (the last good version serves), broken; empty for what is no agent."
    )
    severity: Severity | None = Field(description="Of a diagnostic.")
    code: str
    reason: str
    remedy: str
    file: str
    line: int | None
    count: int = Field(description="How often, in all workers; 0 of a diagnostic that was never counted.")
    first_at: datetime | None = None
    last_at: datetime | None = None
    request_id: str = Field("", description="Of the last time.")
    facts: dict[str, Any] = {}
    traceback: str = Field("", description="Of the first time.")


class ErrorFilter(Schema):
    kind: Literal["diagnostic", "failure"] | None = None
    severity: Severity | None = Field(None, description="Diagnostics of this severity; no failures.")
    agent: Text | None = Field(None, description="An agent id.")
    stage: Stage | None = None
    code: Text | None = None
    since: AwareDatetime | None = Field(
        None, description="Failures that happened then or later. Diagnostics stand now, and are told in any case."
    )
    q: Text | None = Field(
        None, description="A text in the reason, the remedy, the code, the subject; or a request id."
    )


@router.get(
    "/admin/agents/errors",
    response={200: Page[AgentError], **REFUSALS},
    auth=OperatorAuth("catalog.view_diagnostic"),
    summary="What is wrong with the agents, and what went wrong lately",
)
def agent_errors(request: HttpRequest, wanted: Query[ErrorFilter], paging: Query[Paging]) -> dict[str, Any]:  # noqa: ARG001
    """Every diagnostic of the worker that answers, with file, line, reason and remedy, errors first; then the failures
    of all workers, the latest first, a second after they happened. Only so many kinds of failure are kept."""
    diagnostics = [] if wanted.kind == "failure" else [one for one in _diagnostics() if _fits(one, wanted)]
    standing = _counted(diagnostics)
    rows = _failures(wanted).exclude(pk__in=standing)
    start = max(0, paging.offset - len(diagnostics))
    shown = diagnostics[paging.offset : paging.offset + paging.limit]
    found = rows.order_by("-last_at", "-pk")[start : start + paging.limit - len(shown)]
    return {"data": [*shown, *map(_failure, found)], "total": len(diagnostics) + rows.count()}


def _diagnostics() -> list[AgentError]:
    found = [
        AgentError(
            kind="diagnostic",
            stage="discover",
            agent=row["id"],
            subject=row["id"],
            state=row["state"],
            count=0,
            **problem,
        )
        for row in discovered()
        for problem in row["problems"]
    ]
    return sorted(found, key=lambda one: (one.severity or "", one.agent))


def _fits(one: AgentError, wanted: ErrorFilter) -> bool:
    texts = f"{one.reason} {one.remedy} {one.code} {one.subject}".casefold()
    return (
        wanted.severity in (None, one.severity)
        and wanted.agent in (None, one.agent)
        and wanted.stage in (None, one.stage)
        and wanted.code in (None, one.code)
        and (wanted.q is None or wanted.q.casefold() in texts)
    )


def _counted(diagnostics: Iterable[AgentError]) -> list[int]:
    """Tells these how often they were met; the rows of the ring that said so."""
    by_place = {(one.agent, one.code, one.reason): one for one in diagnostics}
    used = []
    if by_place:
        for row in ErrorEvent.objects.filter(stage="discover", subject__in={agent for agent, _, _ in by_place}):
            if one := by_place.get((row.subject, row.code, row.message)):
                one.count, one.first_at, one.last_at = row.count, row.first_at, row.last_at
                used.append(row.pk)
    return used


def _failures(wanted: ErrorFilter) -> QuerySet[ErrorEvent]:
    rows = ErrorEvent.objects.all()
    if wanted.kind == "diagnostic" or wanted.severity is not None:
        return rows.none()
    if wanted.agent is not None:
        rows = rows.filter(facts__agent=wanted.agent)
    if wanted.stage is not None:
        rows = rows.filter(stage=wanted.stage)
    if wanted.code is not None:
        rows = rows.filter(code=wanted.code)
    if wanted.since is not None:
        rows = rows.filter(last_at__gte=wanted.since)
    if wanted.q is not None:
        q = wanted.q
        texts = Q(message__icontains=q) | Q(remedy__icontains=q) | Q(code__icontains=q) | Q(subject__icontains=q)
        rows = rows.filter(texts | Q(request_id=q))
    return rows


def _failure(row: ErrorEvent) -> AgentError:
    return AgentError(
        kind="failure",
        stage=row.stage,
        agent=_text(row.facts.get("agent")),
        subject=row.subject,
        state="",
        severity=None,
        code=row.code,
        reason=row.message,
        remedy=row.remedy,
        file=_text(row.facts.get("file")),
        line=row.facts.get("line") if isinstance(row.facts.get("line"), int) else None,
        count=row.count,
        first_at=row.first_at,
        last_at=row.last_at,
        request_id=row.request_id,
        facts=row.facts,
        traceback=row.traceback,
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
