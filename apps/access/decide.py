"""The one decision: may this caller do this? A pure function: every door and every page gives the same answer.

Its values are msgspec's: a frozen dataclass takes ten times as long to make, and a request makes several.
"""

import math
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum

import msgspec
from msgspec.structs import replace

from apps.access.policy import Effect, Kind, Policy, Rule
from apps.access.subject import Subject


class Action(StrEnum):
    CHAT = "chat"  # with an agent
    LIST = "list"  # see an agent among the models
    ADMINISTER = "administer"  # the operators' API
    USE_TOOL = "use_tool"  # while an agent runs
    HAND_OVER = "hand_over"  # a run of one agent goes on with another: a handoff, or an agent used as a tool


class Target(msgspec.Struct, frozen=True):
    """What is meant: an agent id, and for USE_TOOL the tool's name and the module that its function comes from."""

    agent: str = ""
    tool: str = ""
    module: str = ""

    def __str__(self) -> str:
        return f"{self.agent} {self.tool}" if self.tool else self.agent


class LimitState(msgspec.Struct, frozen=True):
    """How far a limit is used up. `resets_in` is in seconds; `name` says whose limit of what it is."""

    name: str
    unit: str  # requests, tokens, runs, or USD
    limit: float
    used: float
    resets_in: float

    @property
    def remaining(self) -> float:
        return max(0, self.limit - self.used)

    @property
    def is_exhausted(self) -> bool:
        return self.used >= self.limit

    @property
    def percent(self) -> int:
        return min(100, round(self.used / self.limit * 100))

    def __str__(self) -> str:
        resets = f", anew in {duration(self.resets_in)}" if self.used else ""
        return f"{self.used:,.10g} of {self.limit:,.10g} {self.unit}{resets}"


def duration(seconds: float) -> str:
    """As OpenAI writes it: `17ms`, `1s`, `6m0s`, `23h59m59s`. Rounded up, so that it is not too early then."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    whole = math.ceil(seconds)
    if whole < 60:
        return f"{whole}s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{rest}s" if hours else f"{minutes}m{rest}s"


class Decision(msgspec.Struct, frozen=True):
    """`reason` is one sentence for the caller, `code` the stable name of what decided.

    `rule` spoke; `considered` are all rules that fit, in the order of precedence. `limits` are those that count.
    """

    allowed: bool
    code: str
    reason: str
    rule: Rule | None = None
    considered: tuple[Rule, ...] = ()
    limits: Sequence[LimitState] = ()


_ALLOWED = Decision(True, "allowed", "Allowed.")


def decide(
    policy: Policy, subject: Subject, action: Action, target: Target, *, at: datetime, limits: Sequence[LimitState] = ()
) -> Decision:
    """Whether `subject` may do `action` to `target` at the instant `at`, and which rule says so.

    `limits` are the limits that would count and how far they are used up; one that is exhausted denies.
    """
    key = subject.key
    if refusal := _of_key(policy, subject, at):
        return refusal
    if action is Action.ADMINISTER:
        return _ALLOWED if key.may_administer else Decision(False, "scope", "The API key lacks the scope 'admin'.")
    if not key.may_chat:
        return Decision(False, "scope", "The API key lacks the scope 'chat'.")
    if action is Action.USE_TOOL:
        return _of_tool(policy, subject, target, at)
    if not target.agent or (action is Action.HAND_OVER and not policy.inner_agents_obey_grants):
        return _ALLOWED
    return within(limits, _of_agent(policy, subject, target.agent, at))


def _of_key(policy: Policy, subject: Subject, at: datetime) -> Decision | None:
    """What refuses a key whatever it asks for."""
    key = subject.key
    if not key.is_in_force(at):
        return Decision(False, "key_ended", "The API key is revoked or expired.")
    team = policy.teams.get(key.team_id) if key.team_id is not None else None
    if team and team.suspended:
        return Decision(False, "team_suspended", f"The team '{team.name}' is suspended: {team.suspended}")
    if not key.admits_address(subject.address):
        return Decision(False, "address", "The API key may not be used from this address.")
    if not key.admits_origin(subject.origin):
        return Decision(False, "origin", "The API key may not be used from this web page or program.")
    return None


def _of_agent(policy: Policy, subject: Subject, agent_id: str, at: datetime) -> Decision:
    rules = _fitting(policy, subject, Kind.AGENT, agent_id, agent_id, at)
    if not rules:
        return Decision(False, "no_grant", f"The API key may not use the agent '{agent_id}'.")
    if rules[0].effect is Effect.DENY:
        return Decision(False, "denied", f"The API key may not use the agent '{agent_id}'.", rules[0], rules)
    return Decision(True, "granted", "Allowed.", rules[0], rules)


def _of_tool(policy: Policy, subject: Subject, target: Target, at: datetime) -> Decision:
    """A tool has to be allowed by its name and by its module: whichever denies, decides."""
    by_name = _fitting(policy, subject, Kind.TOOL, target.tool, target.agent, at)
    by_module = _fitting(policy, subject, Kind.MODULE, target.module, target.agent, at) if target.module else ()
    considered = (*by_name, *by_module)
    first = [rules[0] for rules in (by_name, by_module) if rules]
    if denying := next((rule for rule in first if rule.effect is Effect.DENY), None):
        return Decision(False, "denied", f"The tool '{target.tool}' is not allowed here.", denying, considered)
    if first:
        return Decision(True, "granted", "Allowed.", first[0], considered)
    return _ALLOWED


def _fitting(policy: Policy, subject: Subject, kind: Kind, value: str, agent_id: str, at: datetime) -> tuple[Rule, ...]:
    key = subject.key
    return policy.fitting(kind, value, key_id=key.id, team_id=key.team_id, agent_id=agent_id, at=at)


def within(limits: Sequence[LimitState], decision: Decision) -> Decision:
    """The decision, and what the limits say where access is allowed."""
    if not limits:
        return decision
    exhausted = next((one for one in limits if one.is_exhausted), None)
    if decision.allowed and exhausted:
        reason = f"The limit of {exhausted.limit:,.10g} {exhausted.unit} ({exhausted.name}) is used up."
        return replace(decision, allowed=False, code="limit", reason=reason, limits=limits)
    return replace(decision, limits=limits)
