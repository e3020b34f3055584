"""/security/override and /security/overrides: temporary exceptions, made, listed and taken back."""

from datetime import datetime, timedelta
from typing import Any

from django.http import HttpRequest
from ninja import Path, Query, Router, Schema, Status
from pydantic import ConfigDict, Field

from apps.access import overrides as verbs
from apps.access.author import author_of
from apps.access.models import ApiKey, Override
from apps.access.policy import Effect, Kind
from apps.access.subject import Key, Subject
from apps.admin_api.answers import NOT_FOUND, REFUSALS, Body, Page, Paging, RowId, Text, page
from apps.admin_api.authentication import OperatorAuth
from apps.admin_api.preview import Glob, KeyNamed, key_named
from apps.core import clock
from apps.core.errors import AccessDenied, InvalidRequest, NotFound
from apps.openai_api.schemas import ErrorBody

router = Router()


class NewOverride(Body):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "effect": "deny",
                    "about": "tool",
                    "pattern": "delete_*",
                    "ttl": 3600,
                    "reason": "Files vanished, looking into it",
                }
            ]
        }
    )

    key: int | Text | None = Field(None, description="Its id, or its name; for everyone without it.")
    effect: Effect
    about: Kind = Kind.AGENT
    pattern: Glob = Field(description="A glob over agent ids, tool names or modules; * is any text.")
    ttl: int = Field(
        ge=int(verbs.SHORTEST.total_seconds()), le=int(verbs.LONGEST.total_seconds()), description="Seconds."
    )
    reason: Text = Field(min_length=1, description="Why; shown wherever it speaks.")


class OverrideShown(Schema):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": 3,
                    "key": {"id": 12, "name": "Open WebUI"},
                    "effect": "deny",
                    "about": "tool",
                    "pattern": "delete_*",
                    "reason": "Files vanished, looking into it",
                    "author": "ann",
                    "state": "in force",
                    "created_at": "2026-11-25T12:00:00Z",
                    "expires_at": "2026-11-25T13:00:00Z",
                    "ended_at": None,
                    "seconds_left": 3540,
                }
            ]
        }
    )

    id: int
    key: KeyNamed | None = Field(description="None: for everyone.")
    effect: Effect
    about: Kind
    pattern: str
    reason: str
    author: str
    state: str = Field(description="in force, ended (taken back) or expired.")
    created_at: datetime
    expires_at: datetime
    ended_at: datetime | None = Field(description="When it was taken back early.")
    seconds_left: int = Field(description="0 when it is over.")


class OverrideFilter(Schema):
    all: bool = Field(False, description="Also those that are over.")


@router.post(
    "/security/override",
    response={201: OverrideShown, **REFUSALS, **NOT_FOUND},
    auth=OperatorAuth("access.add_override"),
    summary="Make an override",
)
def make_override(request: HttpRequest, wanted: NewOverride) -> Status[OverrideShown]:
    """Live in every worker within a second; ends by itself after `ttl` seconds.

    A key can give itself nothing: none for that key itself, and no `allow` for everyone if it may chat.
    """
    key_id = None if wanted.key is None else key_named(wanted.key).id
    _refuse_to_widen(request, key_id, wanted.effect)
    made = verbs.override(
        effect=wanted.effect,
        about=wanted.about,
        pattern=wanted.pattern,
        ttl=timedelta(seconds=wanted.ttl),
        reason=wanted.reason,
        author=author_of(request).name,
        key=ApiKey.objects.get(pk=key_id) if key_id is not None else None,
    )
    return Status(201, _shown(made, clock.now()))


@router.get(
    "/security/overrides",
    response={200: Page[OverrideShown], **REFUSALS},
    auth=OperatorAuth("access.view_override"),
    summary="The overrides in force",
)
def list_overrides(
    request: HttpRequest,  # noqa: ARG001
    wanted: Query[OverrideFilter],
    paging: Query[Paging],
) -> dict[str, Any]:
    """With the seconds that they hold on. The one that ends last comes first."""
    now = clock.now()
    rows = Override.objects.all() if wanted.all else Override.objects.in_force(now)
    found, total = page(rows.select_related("key").order_by("-expires_at", "-pk"), paging)
    return {"data": [_shown(row, now) for row in found], "total": total}


@router.delete(
    "/security/overrides/{override_id}",
    response={200: OverrideShown, **REFUSALS, **NOT_FOUND, 409: ErrorBody},
    auth=OperatorAuth("access.change_override"),
    summary="Take an override back",
)
def end_override(request: HttpRequest, override_id: Path[RowId]) -> OverrideShown:
    """It ends now, in every worker within a second, and stays in the list of all. 409 when it was over already.

    A key can take back none that hold it in check: none for that key itself, and no `deny` for everyone if it may chat.
    """
    made = Override.objects.select_related("key").filter(pk=override_id).first()
    if made is None:
        raise NotFound(f"There is no override {override_id}.", param="override_id")
    _refuse_to_widen(request, made.key_id, Effect.ALLOW if made.effect == Effect.DENY else Effect.DENY)
    now = clock.now()
    if not verbs.end_override(made, author=author_of(request).name, at=now):
        raise InvalidRequest(f"The override {override_id} is over already.", status=409, code="override_over")
    return _shown(made, now)


def _refuse_to_widen(request: HttpRequest, key_id: int | None, effect: Effect) -> None:
    """Whoever holds a key must not gain by it what its issuer did not give. Raises AccessDenied."""
    subject: object = request.auth  # type: ignore[attr-defined]  # ninja puts it there
    if isinstance(subject, Subject) and _gains(subject.key, key_id, effect):
        raise AccessDenied(
            "A key cannot change what itself may do. Log in to the admin, or use another key.", code="own_key"
        )


def _gains(key: Key, key_id: int | None, effect: Effect) -> bool:
    if key_id is None:
        return key.may_chat and effect is Effect.ALLOW
    return key_id == key.id


def _shown(row: Override, now: datetime) -> OverrideShown:
    state = row.state(now)
    return OverrideShown(
        id=row.pk,
        key=KeyNamed(id=row.key.pk, name=row.key.name) if row.key else None,
        effect=Effect(row.effect),
        about=Kind(row.about),
        pattern=row.pattern,
        reason=row.reason,
        author=row.author,
        state=state,
        created_at=row.created_at,
        expires_at=row.expires_at,
        ended_at=row.ended_at,
        seconds_left=int((row.expires_at - now).total_seconds()) if state == "in force" else 0,
    )
