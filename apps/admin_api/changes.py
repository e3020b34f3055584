"""GET /security/changes: who changed what of the configuration, and what it was before."""

from datetime import datetime
from typing import Annotated, Any

from auditlog.models import LogEntry
from django.db.models import QuerySet
from django.http import HttpRequest
from ninja import Query, Router, Schema
from pydantic import AwareDatetime, ConfigDict, Field, StringConstraints

from apps.admin_api.answers import REFUSALS, Page, Paging, RowId, page
from apps.admin_api.authentication import OperatorAuth
from apps.core import audit

router = Router()

_ACTIONS = {LogEntry.Action.CREATE: "create", LogEntry.Action.UPDATE: "update", LogEntry.Action.DELETE: "delete"}


class AuthorShown(Schema):
    """`name` is that of a user or key at that time, or `command` for whoever ran one on the server."""

    name: str
    user_id: int | None
    key_id: int | None
    address: str


class ObjectShown(Schema):
    type: str = Field(description="Such as access.apikey.")
    id: int
    name: str = Field(description="As it was called at that time.")


class FieldChange(Schema):
    """Of a secret only whether there was one."""

    field: str
    old: Any
    new: Any


class ChangeShown(Schema):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": 7,
                    "at": "2026-11-25T12:00:00Z",
                    "action": "update",
                    "object": {"type": "access.team", "id": 1, "name": "Labs"},
                    "author": {"name": "ann", "user_id": 2, "key_id": None, "address": "10.0.0.7"},
                    "changes": [{"field": "suspended", "old": False, "new": True}],
                }
            ]
        }
    )

    id: int
    at: datetime
    action: str = Field(description="create, update or delete.")
    object: ObjectShown
    author: AuthorShown
    changes: list[FieldChange]


class ChangeFilter(Schema):
    type: Annotated[str, StringConstraints(pattern=r"^[a-z_]+\.[a-z_]+$", max_length=200)] | None = Field(
        None, description="Of the object, such as access.apikey, access.grant or upstreams.upstream."
    )
    id: RowId | None = Field(None, description="Of the object.")
    since: AwareDatetime | None = Field(None, description="Changes of that time or later.")


@router.get(
    "/security/changes",
    response={200: Page[ChangeShown], **REFUSALS},
    auth=OperatorAuth("auditlog.view_logentry"),
    summary="Who changed the configuration",
)
def changes(request: HttpRequest, wanted: Query[ChangeFilter], paging: Query[Paging]) -> dict[str, Any]:  # noqa: ARG001
    """Keys, teams, rules, overrides, upstreams and settings of agents; the latest change first."""
    rows = _matching(wanted).select_related("content_type").order_by("-timestamp", "-pk")
    found, total = page(rows, paging)
    return {"data": [_shown(row) for row in found], "total": total}


def _matching(wanted: ChangeFilter) -> QuerySet[LogEntry]:
    rows: QuerySet[LogEntry] = LogEntry.objects.filter(action__in=_ACTIONS)
    if wanted.type is not None:
        app, _, model = wanted.type.partition(".")
        rows = rows.filter(content_type__app_label=app, content_type__model=model)
    if wanted.id is not None:
        rows = rows.filter(object_id=wanted.id)
    if wanted.since is not None:
        rows = rows.filter(timestamp__gte=wanted.since)
    return rows


def _shown(entry: LogEntry) -> ChangeShown:
    kind, signature = entry.content_type, entry.additional_data or {}
    return ChangeShown(
        id=entry.pk,
        at=entry.timestamp,
        action=_ACTIONS[entry.action],
        object=ObjectShown(type=f"{kind.app_label}.{kind.model}", id=entry.object_id, name=entry.object_repr),
        author=AuthorShown(
            name=signature.get("author", ""),
            user_id=entry.actor_id,
            key_id=signature.get("key_id"),
            address=signature.get("address", ""),
        ),
        changes=[FieldChange(field=one.field, old=one.old, new=one.new) for one in audit.changes(entry)],
    )
