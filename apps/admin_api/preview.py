"""POST /security/preview: what would be decided, and why. Changes nothing."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Annotated

from django.http import HttpRequest
from ninja import Router, Schema
from pydantic import AwareDatetime, ConfigDict, Field, StringConstraints

from apps.access.decide import Action, Decision, LimitState, Target
from apps.access.explain import explain, in_words, steps
from apps.access.keys import keys
from apps.access.limiting import states_now
from apps.access.overrides import LONGEST, check_glob
from apps.access.policy import Effect, Kind, Level, Rule
from apps.access.policy_in_force import policy_in_force
from apps.access.subject import EndUser, Key, Subject
from apps.admin_api.answers import NOT_FOUND, REFUSALS, Body, Text
from apps.admin_api.authentication import OperatorAuth
from apps.core import clock
from apps.core.errors import InvalidRequest, NotFound

router = Router()

_LONGEST_TTL = int(LONGEST.total_seconds())
Glob = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\s,;\x00]+$")]


class Supposition(Body):
    """An override that does not exist, as it would be if it were made now."""

    effect: Effect
    about: Kind = Kind.AGENT
    pattern: Glob
    ttl: int = Field(3600, ge=1, le=_LONGEST_TTL, description="Seconds from now that it would hold.")
    everyone: bool = Field(False, description="For everyone; else for the key in question.")


class Question(Body):
    """May this key do this?"""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"key": 1, "action": "chat", "agent": "default/concierge"},
                {
                    "key": "Open WebUI",
                    "action": "use_tool",
                    "agent": "labs/planner",
                    "tool": "delete_file",
                    "module": "agents.labs.files",
                    "at": "2026-12-24T18:00:00Z",
                    "supposing": [{"effect": "deny", "about": "tool", "pattern": "delete_*", "ttl": 3600}],
                },
            ]
        }
    )

    key: int | Text = Field(description="Its id, or its name when only one has that.")
    action: Action = Action.CHAT
    agent: Text = Field("", description="An agent id.")
    tool: Text = Field("", description="For use_tool: its name for the model.")
    module: Text = Field("", description="For use_tool: the dotted path of the module that its function comes from.")
    user: Text = Field("", description="The id of the person behind the key.")
    address: Text = Field("", description="Where the request would come from.")
    origin: Text = Field("", description="The web page that would send it.")
    at: AwareDatetime | None = Field(None, description="As if at that time; now without it.")
    supposing: list[Supposition] = Field([], max_length=50, description="As if these overrides were in force besides.")


class KeyNamed(Schema):
    id: int
    name: str


class RuleShown(Schema):
    """`in_words` says the same as the other members."""

    id: str
    in_words: str
    kind: Kind
    effect: Effect
    pattern: str
    level: str = Field(description="Whom it is for: key, team, namespace or everyone.")
    subject: int | str = Field(description="The id of the key or team, or the namespace.")
    agents: str = Field(description="Only while an agent that fits this glob runs.")
    expires_at: datetime | None = Field(description="Of an override; standing rules have none.")
    note: str


class StepShown(Schema):
    """One thing that was looked at, in the order of looking."""

    text: str
    outcome: str = Field(description="passed, denied, spoke or outranked.")
    rule: str | None = Field(description="The id of the rule, where it was one.")


class LimitShown(Schema):
    name: str
    unit: str
    limit: float
    used: float
    remaining: float
    resets_in: float = Field(description="Seconds.")
    is_exhausted: bool


class Answer(Schema):
    """The decision of the worker that answers, and everything that it went by."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "allowed": True,
                    "code": "granted",
                    "reason": "Allowed.",
                    "key": {"id": 1, "name": "Open WebUI"},
                    "at": "2026-11-25T12:00:00Z",
                    "rule": {
                        "id": "grant-1",
                        "in_words": "Allow agent * for the key",
                        "kind": "agent",
                        "effect": "allow",
                        "pattern": "*",
                        "level": "key",
                        "subject": 1,
                        "agents": "*",
                        "expires_at": None,
                        "note": "",
                    },
                    "considered": [],
                    "steps": [{"text": "Allow agent * for the key", "outcome": "spoke", "rule": "grant-1"}],
                    "limits": [],
                }
            ]
        }
    )

    allowed: bool
    code: str = Field(description="The stable name of what decided.")
    reason: str = Field(description="What the caller would be told.")
    key: KeyNamed
    at: datetime
    rule: RuleShown | None = Field(description="The one that spoke.")
    considered: list[RuleShown] = Field(description="All rules that fit, in the order of precedence.")
    steps: list[StepShown]
    limits: list[LimitShown]


@router.post(
    "/security/preview",
    response={200: Answer, **REFUSALS, **NOT_FOUND},
    auth=OperatorAuth("access.view_apikey"),
    summary="What would be decided, and why",
)
def preview(request: HttpRequest, question: Question) -> Answer:  # noqa: ARG001
    """A dry run of the decision that a real request meets. It changes nothing, and counts nothing."""
    key, now = key_named(question.key), clock.now()
    at = (question.at or now).astimezone(UTC)
    subject = Subject(key, EndUser(question.user) if question.user else None, question.address, question.origin)
    # How far a limit is used up is known of this moment alone.
    counts = question.action is Action.CHAT and question.at is None
    decision = explain(
        policy_in_force(),
        subject,
        question.action,
        Target(question.agent, question.tool, question.module),
        at=at,
        supposing=_supposed(question.supposing, key, now),
        limits=states_now(subject, question.agent) if counts else (),
    )
    return _answer(decision, key, at)


def key_named(wanted: int | str) -> Key:
    """Raises NotFound, and InvalidRequest for a name that several have."""
    found = {known.key.id: known.key for known in keys.current().values() if wanted in (known.key.id, known.key.name)}
    if not found:
        raise NotFound(f"There is no key {wanted!r}.", param="key")
    if len(found) > 1:
        raise InvalidRequest(f"{len(found)} keys are called {wanted!r}; name one by its id.", param="key")
    return next(iter(found.values()))


def _supposed(suppositions: Iterable[Supposition], key: Key, now: datetime) -> Iterator[Rule]:
    for number, one in enumerate(suppositions, start=1):
        check_glob(one.about, one.pattern)
        yield Rule(
            f"supposed-{number}",
            one.about,
            one.effect,
            one.pattern,
            Level.EVERYONE if one.everyone else Level.KEY,
            "" if one.everyone else key.id,
            expires_at=now + timedelta(seconds=one.ttl),
            note="supposed",
        )


def _answer(decision: Decision, key: Key, at: datetime) -> Answer:
    return Answer(
        allowed=decision.allowed,
        code=decision.code,
        reason=decision.reason,
        key=KeyNamed(id=key.id, name=key.name),
        at=at,
        rule=_shown(decision.rule) if decision.rule else None,
        considered=[_shown(rule) for rule in decision.considered],
        steps=[
            StepShown(text=step.text, outcome=step.outcome, rule=step.rule.id if step.rule else None)
            for step in steps(decision)
        ],
        limits=[_limit(state) for state in decision.limits],
    )


def _shown(rule: Rule) -> RuleShown:
    return RuleShown(
        id=rule.id,
        in_words=in_words(rule),
        kind=rule.kind,
        effect=rule.effect,
        pattern=rule.pattern,
        level=rule.level.name.lower(),
        subject=rule.subject,
        agents=rule.agents,
        expires_at=rule.expires_at,
        note=rule.note,
    )


def _limit(state: LimitState) -> LimitShown:
    return LimitShown(
        name=state.name,
        unit=state.unit,
        limit=state.limit,
        used=state.used,
        remaining=state.remaining,
        resets_in=state.resets_in,
        is_exhausted=state.is_exhausted,
    )
