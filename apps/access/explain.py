"""What would be decided, and why: the same `decide` as a real request's, over a policy that may be supposed."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from apps.access.decide import Action, Decision, LimitState, Target, decide
from apps.access.policy import Effect, Level, Policy, Rule
from apps.access.subject import Subject

_LEVELS = {
    Level.KEY: "the key",
    Level.TEAM: "the team",
    Level.NAMESPACE: "the namespace",
    Level.EVERYONE: "everyone",
}


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that was looked at, in the order of looking. `outcome`: passed, denied, spoke, or outranked."""

    text: str
    outcome: str
    rule: Rule | None = None


def explain(
    policy: Policy,
    subject: Subject,
    action: Action,
    target: Target,
    *,
    at: datetime,
    supposing: Iterable[Rule] = (),
    limits: Sequence[LimitState] = (),
) -> Decision:
    """The decision at the instant `at`, supposing these overrides were in force besides. Changes nothing."""
    return decide(policy.with_overrides(supposing), subject, action, target, at=at, limits=limits)


def steps(decision: Decision) -> Iterator[Step]:
    """How it came to the decision, for people."""
    if decision.code in _OF_THE_KEY:
        yield Step(decision.reason, "denied")
        return
    yield Step("The key is in force, its team, address, origin and scope are as they have to be.", "passed")
    for rule in decision.considered:
        yield Step(in_words(rule), "spoke" if rule is decision.rule else "outranked", rule)
    if not decision.considered:
        yield Step(
            "No rule fits: agents are denied then, tools are allowed.", "passed" if decision.allowed else "denied"
        )
    for limit in decision.limits:
        yield Step(f"{limit.name}: {limit}.", "denied" if limit.is_exhausted else "passed")


_OF_THE_KEY = frozenset({"key_ended", "team_suspended", "address", "origin", "scope"})


def in_words(rule: Rule) -> str:
    """Such as `Allow agent default/* for the key`."""
    verb = "Allow" if rule.effect is Effect.ALLOW else "Deny"
    whom = f"the namespace {rule.subject}" if rule.level is Level.NAMESPACE else _LEVELS[rule.level]
    where = "" if rule.agents == "*" else f" in {rule.agents}"
    until = f", until {rule.expires_at:%Y-%m-%d %H:%M:%S} UTC" if rule.expires_at else ""
    note = f" ({rule.note})" if rule.note else ""
    return f"{verb} {rule.kind} {rule.pattern}{where} for {whom}{until}{note}"
