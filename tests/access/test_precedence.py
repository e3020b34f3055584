"""Precedence is as documented: `decide` against the words of docs/systems/security.md, written down a second time."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.access.decide import Action, Decision, Target, decide
from apps.access.explain import explain, steps
from apps.access.policy import Effect, Kind, Level, Policy, Rule
from apps.access.subject import Key, Subject

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
LATER, EARLIER = NOW + timedelta(hours=1), NOW - timedelta(seconds=1)
KEY = Key(7, "tests", team_id=3)
AGENTS = ["labs/planner", "labs/painter", "default/planner", "default/refunds"]
PATTERNS = ["*", "labs/*", "labs/*plan*", "*planner", "default/*", "labs/planner", "LABS/Planner", "*/*", "**", "l*r"]
TOOLS = ["search", "search_web", "delete"]
TOOL_PATTERNS = ["*", "search*", "*search*", "search", "delete", "*e*"]
MODULES = ["agents.labs.planner.agent", "os", "mcp.github"]
MODULE_PATTERNS = ["*", "agents.*", "agents.labs.*", "os", "mcp.*"]

PLACES = [
    (Level.KEY, 7),
    (Level.KEY, 8),
    (Level.TEAM, 3),
    (Level.TEAM, 4),
    (Level.NAMESPACE, "labs"),
    (Level.NAMESPACE, "Default"),
    (Level.EVERYONE, ""),
]


@st.composite
def rules(draw: Any, kind: Kind, patterns: Sequence[str]) -> list[Rule]:
    made = []
    for number in range(draw(st.integers(0, 8))):
        overrides = draw(st.booleans())
        level, subject = draw(st.sampled_from([PLACES[0], PLACES[1], PLACES[-1]] if overrides else PLACES))
        made.append(
            Rule(
                id=f"rule-{number}",
                kind=kind,
                effect=draw(st.sampled_from(Effect)),
                pattern=draw(st.sampled_from(patterns)),
                level=level,
                subject=subject,
                agents="*" if overrides or kind is Kind.AGENT else draw(st.sampled_from(["*", "labs/*", "default/*"])),
                expires_at=draw(st.sampled_from([LATER, EARLIER, NOW])) if overrides else None,
            )
        )
    return made


def fits(value: str, pattern: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), value, re.IGNORECASE | re.DOTALL) is not None


def speaks_about(rule: Rule, value: str, agent: str) -> bool:
    if rule.expires_at is not None and rule.expires_at <= NOW:
        return False
    namespace = agent.split("/", maxsplit=1)[0]
    for_us = (
        rule.level == Level.EVERYONE
        or (rule.level == Level.KEY and rule.subject == KEY.id)
        or (rule.level == Level.TEAM and rule.subject == KEY.team_id)
        or (rule.level == Level.NAMESPACE and str(rule.subject).lower() == namespace)
    )
    return for_us and fits(value, rule.pattern) and fits(agent, rule.agents)


def outranks(one: Rule, other: Rule) -> bool:
    """Sentence by sentence."""
    if (one.expires_at is None) != (other.expires_at is None):
        return one.expires_at is not None  # an override in force beats every standing rule
    if one.level != other.level:
        return one.level > other.level  # key, team, namespace, everyone
    for mine, theirs in ((one.pattern, other.pattern), (one.agents, other.agents)):
        if ("*" in mine) != ("*" in theirs):
            return "*" not in mine  # no star beats any star
        if len(mine.replace("*", "")) != len(theirs.replace("*", "")):
            return len(mine.replace("*", "")) > len(theirs.replace("*", ""))  # then more other characters
    return one.effect == Effect.DENY and other.effect == Effect.ALLOW  # at a tie deny beats allow


def expected_effect(candidates: list[Rule], value: str, agent: str) -> Effect | None:
    speaking = [rule for rule in candidates if speaks_about(rule, value, agent)]
    best = [rule for rule in speaking if not any(outranks(other, rule) for other in speaking)]
    effects = {rule.effect for rule in best}
    assert len(effects) <= 1  # the documented order leaves nothing undecided
    return effects.pop() if effects else None


@given(made=rules(Kind.AGENT, PATTERNS), agent=st.sampled_from(AGENTS))
@settings(max_examples=500, deadline=None)
def test_agents_are_decided_as_documented(made: list[Rule], agent: str) -> None:
    decision = decide(Policy.of(made), Subject(KEY), Action.CHAT, Target(agent), at=NOW)

    assert decision.allowed == (expected_effect(made, agent, agent) == Effect.ALLOW)
    assert {rule.id for rule in decision.considered} == {r.id for r in made if speaks_about(r, agent, agent)}
    if decision.rule:
        assert not any(outranks(other, decision.rule) for other in decision.considered)


@given(
    named=rules(Kind.TOOL, TOOL_PATTERNS),
    placed=rules(Kind.MODULE, MODULE_PATTERNS),
    agent=st.sampled_from(AGENTS),
    tool=st.sampled_from(TOOLS),
    module=st.sampled_from(MODULES),
)
@settings(max_examples=500, deadline=None)
def test_tools_are_decided_as_documented(
    named: list[Rule], placed: list[Rule], agent: str, tool: str, module: str
) -> None:
    policy = Policy.of([*named, *placed])

    decision = decide(policy, Subject(KEY), Action.USE_TOOL, Target(agent, tool, module), at=NOW)

    effects = [expected_effect(named, tool, agent), expected_effect(placed, module, agent)]
    assert decision.allowed == (Effect.DENY not in effects)


@given(made=rules(Kind.AGENT, PATTERNS), supposed=rules(Kind.AGENT, PATTERNS), agent=st.sampled_from(AGENTS))
@settings(max_examples=500, deadline=None)
def test_a_supposed_override_decides_as_a_made_one(made: list[Rule], supposed: list[Rule], agent: str) -> None:
    suppositions = [rule for rule in supposed if rule.is_override]
    alone, target = Policy.of(made), Target(agent)

    told = explain(alone, Subject(KEY), Action.CHAT, target, at=NOW, supposing=suppositions)

    made_too = decide(Policy.of([*made, *suppositions]), Subject(KEY), Action.CHAT, target, at=NOW)
    untouched = decide(alone, Subject(KEY), Action.CHAT, target, at=NOW)
    assert told.allowed == made_too.allowed
    assert untouched == decide(Policy.of(made), Subject(KEY), Action.CHAT, target, at=NOW)


@given(made=rules(Kind.AGENT, PATTERNS), agents=st.lists(st.sampled_from(AGENTS), min_size=2, max_size=6))
@settings(max_examples=300, deadline=None)
def test_what_was_asked_before_changes_no_answer(made: list[Rule], agents: list[str]) -> None:
    asked_often = Policy.of(made)
    answers = [decide(asked_often, Subject(KEY), Action.CHAT, Target(agent), at=NOW) for agent in agents]

    assert answers == [decide(Policy.of(made), Subject(KEY), Action.CHAT, Target(agent), at=NOW) for agent in agents]


@given(made=rules(Kind.AGENT, PATTERNS), agent=st.sampled_from(AGENTS))
@settings(max_examples=200, deadline=None)
def test_explanation_marks_exactly_the_rule_that_spoke(made: list[Rule], agent: str) -> None:
    decision = decide(Policy.of(made), Subject(KEY), Action.CHAT, Target(agent), at=NOW)

    spoke = [step.rule for step in steps(decision) if step.outcome == "spoke"]
    assert spoke == ([decision.rule] if decision.rule else [])


def decision_of(*made: Rule, key: Key = KEY, action: Action = Action.CHAT, **options: Any) -> Decision:
    policy = Policy.of(made, **options)
    return decide(policy, Subject(key), action, Target("labs/planner"), at=NOW)


def grant(id: str, effect: Effect, pattern: str, level: Level = Level.EVERYONE, subject: int | str = "") -> Rule:
    return Rule(id, Kind.AGENT, effect, pattern, level, subject)


@pytest.mark.parametrize(
    ("made", "spoke"),
    [
        ([], None),
        ([grant("a", Effect.ALLOW, "default/*")], None),
        ([grant("a", Effect.ALLOW, "*"), grant("b", Effect.DENY, "labs/*")], "b"),
        ([grant("a", Effect.ALLOW, "labs/planner"), grant("b", Effect.DENY, "labs/planne*")], "a"),
        ([grant("a", Effect.ALLOW, "labs/*"), grant("b", Effect.DENY, "labs/*")], "b"),
        ([grant("a", Effect.ALLOW, "*", Level.NAMESPACE, "labs"), grant("b", Effect.DENY, "labs/planner")], "a"),
        ([grant("a", Effect.DENY, "*", Level.TEAM, 3), grant("b", Effect.ALLOW, "*", Level.NAMESPACE, "labs")], "a"),
        ([grant("a", Effect.ALLOW, "*", Level.KEY, 7), grant("b", Effect.DENY, "labs/planner", Level.TEAM, 3)], "a"),
        ([grant("a", Effect.ALLOW, "*", Level.KEY, 8)], None),
    ],
)
def test_worked_examples(made: list[Rule], spoke: str | None) -> None:
    decision = decision_of(*made)

    assert (decision.rule.id if decision.rule else None) == spoke


def test_override_expires_to_the_second() -> None:
    override = Rule("o", Kind.AGENT, Effect.DENY, "*", Level.KEY, 7, expires_at=LATER)
    policy = Policy.of([grant("a", Effect.ALLOW, "*"), override])
    instants = [LATER - timedelta(microseconds=1), LATER]

    answers = [decide(policy, Subject(KEY), Action.CHAT, Target("labs/planner"), at=at).allowed for at in instants]

    assert answers == [False, True]


def test_inner_agents_need_grants_only_where_that_is_turned_on() -> None:
    off = decision_of(action=Action.HAND_OVER)
    on = decision_of(action=Action.HAND_OVER, inner_agents_obey_grants=True)

    assert (off.allowed, on.allowed, on.code) == (True, False, "no_grant")


@pytest.mark.parametrize("others", [0, 100])
@pytest.mark.parametrize(
    ("pattern", "denied"),
    [("os", True), ("os.*", True), ("OS.*", True), ("os*", True), ("os.path", False), ("o.*", False), ("*.os", False)],
)
def test_pattern_of_all_in_a_module_is_about_the_module_too(pattern: str, denied: bool, others: int) -> None:
    made = [Rule("toolrule-1", Kind.MODULE, Effect.DENY, pattern)]
    made += [Rule(f"other-{number}", Kind.MODULE, Effect.DENY, f"other{number}.*") for number in range(others)]

    decision = decide(Policy.of(made), Subject(KEY), Action.USE_TOOL, Target("labs/planner", "t", "os"), at=NOW)

    assert decision.allowed is not denied


def test_ten_thousand_rules_are_looked_through_once() -> None:
    """What fits is remembered: the second answer compares no glob."""
    many = [grant(f"g{number}", Effect.ALLOW, f"team{number}/*") for number in range(10_000)]
    policy = Policy.of([*many, grant("all", Effect.ALLOW, "labs/*")])
    decide(policy, Subject(KEY), Action.CHAT, Target("labs/planner"), at=NOW)

    remembered = dict(policy._remembered)
    again = decide(policy, Subject(KEY), Action.CHAT, Target("labs/planner"), at=NOW)

    assert (again.allowed, policy._remembered == remembered) == (True, True)
