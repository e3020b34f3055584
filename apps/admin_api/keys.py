"""/admin/keys: API keys, issued, listed, given a new credential and revoked."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from django.db import IntegrityError
from django.http import HttpRequest, HttpResponse
from ninja import Header, Path, Query, Router, Schema, Status
from pydantic import AwareDatetime, ConfigDict, Field, StringConstraints

from apps.access import key_checks, keys, passing_on
from apps.access.author import author_of
from apps.access.models import ApiKey, ApiKeyQuerySet, Team
from apps.access.passing_on import Powers
from apps.access.subject import Subject
from apps.admin_api.answers import NOT_FOUND, REFUSALS, Body, Page, Paging, RowId, Text, page
from apps.admin_api.authentication import OperatorAuth
from apps.core import clock
from apps.core.errors import AccessDenied, InvalidRequest, NotFound
from apps.core.globs import AGENT_GLOB
from apps.openai_api.schemas import ErrorBody

router = Router()

Scope = Literal["chat", "admin"]
KeyState = Literal["active", "expired", "revoked", "suspended"]
AgentGlob = Annotated[str, StringConstraints(max_length=200, pattern=f"^{AGENT_GLOB.pattern}$")]
Mark = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[\x21-\x7e]+$")]

_LONGEST_OVERLAP = int(timedelta(days=7).total_seconds())
_CONFLICT = {409: ErrorBody}

_EXAMPLE: dict[str, Any] = {
    "id": 12,
    "name": "Open WebUI",
    "owner": "ann@example.com",
    "team": "Support",
    "prefix": "agw_3f9c01ab",
    "state": "active",
    "scopes": ["chat"],
    "agents": ["default/*"],
    "addresses": ["10.0.0.0/8"],
    "origins": [],
    "trusts_identity_headers": False,
    "created_at": "2026-11-25T12:00:00Z",
    "created_by": "ann",
    "expires_at": "2027-11-25T12:00:00Z",
    "revoked_at": None,
    "last_used_at": "2026-11-25T12:30:00Z",
    "former_counts_until": None,
}
_CREDENTIAL = "agw_3f9c01ab_shown-this-once"


class KeyShown(Schema):
    """A key without its credential, which is stored nowhere."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    id: int
    name: str = Field(description="Several keys may have one name.")
    owner: str
    team: str | None
    prefix: str = Field(description="How its credential begins.")
    state: KeyState = Field(description="suspended: in force, but its team is suspended.")
    scopes: list[Scope]
    agents: list[str] = Field(description="Globs over agent ids that its own grants allow.")
    addresses: list[str] = Field(description="Where it may be used from; empty: anywhere.")
    origins: list[str] = Field(description="The web pages that may use it; empty: no matter.")
    trusts_identity_headers: bool = Field(description="A front end: its requests say who the person is.")
    created_at: datetime
    created_by: str | None = Field(description="The user who issued it in the admin or by a session.")
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None = Field(description="Written at most twice a minute.")
    former_counts_until: datetime | None = Field(description="While the credential before a rotation still counts.")


class NewKey(Body):
    """What is left out is as of the key that asks, and without any bound for members of staff."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "Open WebUI",
                    "owner": "ann@example.com",
                    "scopes": ["chat"],
                    "agents": ["default/*"],
                    "expires_at": "2027-11-25T12:00:00Z",
                }
            ]
        }
    )

    name: Annotated[str, StringConstraints(strip_whitespace=True, max_length=100, pattern=r"^[^\x00]*$")] = Field(
        min_length=1, description="Who or what uses it."
    )
    owner: Text = Field("", description="Who answers for it.")
    team: Text | None = Field(None, description="The name of one that is there.")
    scopes: list[Scope] = Field(["chat"], max_length=10)
    agents: list[AgentGlob] | None = Field(None, max_length=200, description="Globs; each becomes a grant of its own.")
    addresses: list[Text] | None = Field(None, max_length=200, description="Such as 10.0.0.0/8.")
    origins: list[Text] | None = Field(None, max_length=200, description="Such as https://chat.example.com.")
    trusts_identity_headers: bool = False
    expires_at: AwareDatetime | None = Field(None, description="Must lie ahead.")


class Rotation(Body):
    model_config = ConfigDict(json_schema_extra={"examples": [{"overlap": 3600}, {"overlap": 0}]})

    overlap: int = Field(
        int(keys.OVERLAP.total_seconds()),
        ge=0,
        le=_LONGEST_OVERLAP,
        description="Seconds that the former credential counts on; 0 if it may have leaked.",
    )


class Issued(Schema):
    """`credential` is told this once."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"key": _EXAMPLE, "credential": _CREDENTIAL}]})

    key: KeyShown
    credential: str


class KeyFilter(Schema):
    state: KeyState | None = None
    scope: Scope | None = None
    team: Text | None = Field(None, description="Its name.")
    q: Text | None = Field(None, description="A part of its name or its owner, or how its credential begins.")


@router.get(
    "/admin/keys",
    response={200: Page[KeyShown], **REFUSALS},
    auth=OperatorAuth("access.view_apikey"),
    summary="The API keys",
)
def list_keys(request: HttpRequest, wanted: Query[KeyFilter], paging: Query[Paging]) -> dict[str, Any]:  # noqa: ARG001
    """Those that are expired or revoked included; the latest issued first. No credential is told."""
    now = clock.now()
    found, total = page(_matching(wanted, now), paging)
    return {"data": [_shown(row, now) for row in found], "total": total}


@router.post(
    "/admin/keys",
    response={201: Issued, **REFUSALS, **_CONFLICT},
    auth=OperatorAuth("access.add_apikey"),
    summary="Issue an API key",
)
def issue_key(
    request: HttpRequest,
    response: HttpResponse,
    wanted: NewKey,
    mark: Annotated[Mark | None, Header(None, alias="Idempotency-Key")] = None,
) -> Status[Issued]:
    """Live in every worker within a second. The credential is in this answer and nowhere else.

    A key issues none that can do more than itself, or lives longer: 403, `own_key`. With an `Idempotency-Key` (any text
    of yours) a request that is sent twice makes one key: 409, `key_issued_before`, names it.
    """
    issuer = _issuer(request)
    powers = _powers(wanted, issuer)
    if issuer:
        _refuse(passing_on.why_not_issue(issuer, powers))
    asked_for = keys.mark_of(_author(request), mark) if mark else ""
    _refuse_second(asked_for)
    try:
        key, credential = keys.issue_key(
            wanted.name,
            owner=wanted.owner,
            agents=powers.agents,
            team_id=powers.team_id,
            may_chat=powers.may_chat,
            may_administer=powers.may_administer,
            ip_ranges=powers.ranges,
            origins=powers.origins,
            trusts_identity_headers=wanted.trusts_identity_headers,
            expires_at=powers.expires_at,
            asked_for=asked_for,
            created_by=author_of(request).user,
        )
    except IntegrityError:  # the same request was quicker, perhaps in another worker
        _refuse_second(asked_for)
        raise
    response["Cache-Control"] = "no-store"
    return Status(201, Issued(key=_shown(_key(key.pk), clock.now()), credential=credential))


@router.get(
    "/admin/keys/{key_id}",
    response={200: KeyShown, **REFUSALS, **NOT_FOUND},
    auth=OperatorAuth("access.view_apikey"),
    summary="An API key",
)
def get_key(request: HttpRequest, key_id: Path[RowId]) -> KeyShown:  # noqa: ARG001
    """Without its credential."""
    return _shown(_key(key_id), clock.now())


@router.post(
    "/admin/keys/{key_id}/rotate",
    response={200: Issued, **REFUSALS, **NOT_FOUND, **_CONFLICT},
    auth=OperatorAuth("access.change_apikey"),
    summary="Give a key a new credential",
)
def rotate_key(
    request: HttpRequest, response: HttpResponse, key_id: Path[RowId], wanted: Rotation | None = None
) -> Issued:
    """Name, grants, limits and history stay. The former credential counts on for `overlap` seconds, a day without it.

    Only one former credential counts: that of a rotation before ends now. The new one is in this answer and nowhere
    else. A key rotates itself, and others that can do no more than itself. 409: `key_revoked` for a revoked one,
    `key_rotated_meanwhile` for the slower one of two rotations at once.
    """
    key, issuer, now = _key(key_id), _issuer(request), clock.now()
    if issuer:
        _refuse(passing_on.why_not_rotate(issuer, key))
    overlap = timedelta(seconds=(wanted or Rotation()).overlap)  # type: ignore[call-arg]  # all has a default
    try:
        credential = keys.rotate_key(key, at=now, overlap=overlap)
    except keys.NotRotated as error:
        raise InvalidRequest(str(error), status=409, code=error.code) from error
    response["Cache-Control"] = "no-store"
    return Issued(key=_shown(key, now), credential=credential)


@router.post(
    "/admin/keys/{key_id}/revoke",
    response={200: KeyShown, **REFUSALS, **NOT_FOUND},
    auth=OperatorAuth("access.change_apikey"),
    summary="Revoke a key",
)
def revoke_key(request: HttpRequest, key_id: Path[RowId]) -> KeyShown:  # noqa: ARG001
    """For good, in every worker within a second. Once more changes nothing, and is answered the same."""
    _key(key_id)
    ApiKey.objects.filter(pk=key_id).revoke(clock.now())
    return _shown(_key(key_id), clock.now())


# --- what is asked ---------------------------------------------------------------------------------------------------


def _rows() -> ApiKeyQuerySet:
    rows: ApiKeyQuerySet = ApiKey.objects.select_related("team", "created_by").prefetch_related("grants")
    return rows


def _matching(wanted: KeyFilter, now: datetime) -> ApiKeyQuerySet:
    rows = _rows().order_by("-created_at", "-pk")
    if wanted.state:
        rows = rows.in_state(wanted.state, now)
    if wanted.scope:
        rows = rows.filter(**{"may_chat" if wanted.scope == "chat" else "may_administer": True})
    if wanted.team is not None:
        rows = rows.filter(team__name=wanted.team)
    if wanted.q:
        rows = rows.search(wanted.q)
    return rows


def _key(key_id: int) -> ApiKey:
    """Raises NotFound."""
    found: ApiKey | None = _rows().filter(pk=key_id).first()
    if found is None:
        raise NotFound(f"There is no key {key_id}. GET /admin/keys lists them.", param="key_id")
    return found


def _issuer(request: HttpRequest) -> ApiKey | None:
    """The key that asks; None for a member of staff."""
    subject: object = request.auth  # type: ignore[attr-defined]  # ninja puts it there
    return _key(subject.key.id) if isinstance(subject, Subject) else None


def _author(request: HttpRequest) -> str:
    author = author_of(request)
    return f"key {author.key_id}" if author.key_id else f"user {author.user.pk if author.user else ''}"


def _refuse(reason: tuple[str, str] | None) -> None:
    """Raises AccessDenied."""
    if reason:
        param, sentence = reason
        raise AccessDenied(
            f"{sentence} A key gives no more than it has: log in to the admin, or use another key.",
            code="own_key",
            param=param or None,
        )


def _refuse_second(asked_for: str) -> None:
    """Raises InvalidRequest."""
    made = ApiKey.objects.filter(asked_for=asked_for).first() if asked_for else None
    if made:
        raise InvalidRequest(
            f"This request made the key {made.pk} before. Its credential cannot be told again: "
            f"POST /admin/keys/{made.pk}/rotate gives it another one.",
            status=409,
            code="key_issued_before",
        )


def _powers(wanted: NewKey, issuer: ApiKey | None) -> Powers:
    """What is asked for, with what is left out. Raises InvalidRequest."""
    if not wanted.scopes:
        raise InvalidRequest(key_checks.NO_SCOPE, param="scopes")
    if wanted.expires_at and wanted.expires_at <= clock.now():
        raise InvalidRequest(key_checks.ENDED, param="expires_at")
    own = passing_on.powers_of(issuer) if issuer else passing_on.UNBOUNDED
    return Powers(
        may_chat="chat" in wanted.scopes,
        may_administer="admin" in wanted.scopes,
        agents=list(dict.fromkeys(_or(wanted.agents, own.agents))),
        team_id=_team(wanted.team).pk if wanted.team else own.team_id,
        expires_at=wanted.expires_at or own.expires_at,
        ranges=_ranges(_or(wanted.addresses, own.ranges)),
        origins=_origins(_or(wanted.origins, own.origins)),
        poses_as_persons=wanted.trusts_identity_headers,
    )


def _or(wanted: list[str] | None, otherwise: Iterable[str]) -> list[str]:
    return list(otherwise) if wanted is None else wanted


def _team(name: str) -> Team:
    """Raises InvalidRequest."""
    found: Team | None = Team.objects.filter(name=name).first()
    if found is None:
        raise InvalidRequest(f"There is no team '{name}'.", param="team")
    return found


def _ranges(texts: list[str]) -> list[str]:
    """Raises InvalidRequest."""
    if wrong := [one for one in texts if not key_checks.is_range(one)]:
        raise InvalidRequest(key_checks.no_range(wrong[0]), param="addresses")
    return texts


def _origins(texts: list[str]) -> list[str]:
    """Raises InvalidRequest."""
    try:
        return key_checks.as_browsers_send(texts)
    except ValueError as error:
        raise InvalidRequest(str(error), param="origins") from error


# --- what is answered ------------------------------------------------------------------------------------------------


def _shown(key: ApiKey, now: datetime) -> KeyShown:
    scopes: list[tuple[Scope, bool]] = [("chat", key.may_chat), ("admin", key.may_administer)]
    return KeyShown(
        id=key.pk,
        name=key.name,
        owner=key.owner,
        team=key.team.name if key.team else None,
        prefix=key.prefix,
        state=_state(key, now),
        scopes=[scope for scope, has in scopes if has],
        agents=key.globs,
        addresses=key.ip_ranges,
        origins=key.origins,
        trusts_identity_headers=key.trusts_identity_headers,
        created_at=key.created_at,
        created_by=key.created_by.get_username() if key.created_by else None,
        expires_at=key.expires_at,
        revoked_at=key.revoked_at,
        last_used_at=key.last_used_at,
        former_counts_until=key.previous_until if key.former_counts(now) else None,
    )


def _state(key: ApiKey, now: datetime) -> KeyState:
    state: Any = key.state(now)
    return "suspended" if state == "active" and key.team and key.team.suspended else state
