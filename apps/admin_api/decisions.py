"""GET /security/decisions: who was denied what lately, in all workers."""

from datetime import datetime
from typing import Any

from django.db.models import Q, QuerySet
from django.http import HttpRequest
from ninja import Query, Router, Schema
from pydantic import AwareDatetime, ConfigDict, Field

from apps.admin_api.answers import REFUSALS, Page, Paging, RowId, Text, page
from apps.admin_api.authentication import OperatorAuth
from apps.observability.models import ErrorEvent

router = Router()


class Denial(Schema):
    """Equal denials are one row, which counts them."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "key_id": 12,
                    "key_name": "Open WebUI",
                    "user": "u-7",
                    "action": "chat",
                    "target": "labs/planner",
                    "code": "no_grant",
                    "reason": "The API key may not use the agent 'labs/planner'.",
                    "rule": "",
                    "count": 4,
                    "first_at": "2026-11-25T12:00:00Z",
                    "last_at": "2026-11-25T12:30:00Z",
                    "request_id": "req_7f83b1657ff1fc53b92dc18148a1d65d",
                }
            ]
        }
    )

    key_id: int
    key_name: str
    user: str = Field(description="The id of the person behind the key, if there was one.")
    action: str
    target: str = Field(description="An agent id, and a tool's name after it.")
    code: str
    reason: str = Field(description="What the caller was told.")
    rule: str = Field(description="The id of the rule that spoke, empty where none did.")
    count: int
    first_at: datetime
    last_at: datetime
    request_id: str = Field(description="Of the last time.")


class DenialFilter(Schema):
    key_id: RowId | None = None
    code: Text | None = Field(None, description="Such as no_grant, denied, scope, address or limit.")
    agent: Text | None = Field(None, description="An agent id, also of the tools that were wanted in it.")
    since: AwareDatetime | None = Field(None, description="Those that happened then or later.")


@router.get(
    "/security/decisions",
    response={200: Page[Denial], **REFUSALS},
    auth=OperatorAuth("observability.view_errorevent"),
    summary="Recent denials",
)
def denials(request: HttpRequest, wanted: Query[DenialFilter], paging: Query[Paging]) -> dict[str, Any]:  # noqa: ARG001
    """Of all workers, the latest first, a second after they happened. Only so many kinds of failure are kept."""
    found, total = page(_matching(wanted).order_by("-last_at", "-pk"), paging)
    return {"data": [_shown(row) for row in found], "total": total}


def _matching(wanted: DenialFilter) -> QuerySet[ErrorEvent]:
    rows = ErrorEvent.objects.filter(stage="authorise")
    if wanted.key_id is not None:
        rows = rows.filter(facts__key_id=wanted.key_id)
    if wanted.code is not None:
        rows = rows.filter(code=wanted.code)
    if wanted.agent is not None:
        rows = rows.filter(Q(facts__target=wanted.agent) | Q(facts__target__startswith=f"{wanted.agent} "))
    if wanted.since is not None:
        rows = rows.filter(last_at__gte=wanted.since)
    return rows


def _shown(row: ErrorEvent) -> Denial:
    return Denial(
        key_name=row.subject,
        code=row.code,
        reason=row.message,
        count=row.count,
        first_at=row.first_at,
        last_at=row.last_at,
        request_id=row.request_id,
        **{name: row.facts[name] for name in ("key_id", "user", "action", "target", "rule")},
    )
