"""What can be said about a rule without a request: it fits nothing, or another one speaks wherever it could."""

from datetime import UTC, datetime, timedelta
from itertools import product
from time import perf_counter

import pytest

from apps.access.decide import Action, Target, decide
from apps.access.lint import Lint, Oddity
from apps.access.policy import Effect, Kind, Level, Policy, Rule
from apps.access.subject import Key, Subject

NOW = datetime(2026, 11, 25, tzinfo=UTC)
TOOLS = {"default/weather": ["get_weather", "get_time"], "labs/planner": ["delete_plan"]}


def grant(id: str, effect: str, pattern: str, level: Level = Level.EVERYONE, subject: int | str = "") -> Rule:
    return Rule(f"grant-{id}", Kind.AGENT, Effect(effect), pattern, level, subject)


def tool(id: str, effect: str, pattern: str, agents: str = "*", kind: Kind = Kind.TOOL) -> Rule:
    return Rule(f"toolrule-{id}", kind, Effect(effect), pattern, agents=agents)


def oddities(rule: Rule, *others: Rule) -> list[str]:
    return [remark.oddity.value for remark in Lint([rule, *others]).remarks(rule, TOOLS)]


class TestMatchesNothing:
    @pytest.mark.parametrize(
        ("rule", "is_odd"),
        [
            (grant("1", "allow", "default/*"), False),
            (grant("1", "allow", "DEFAULT/Weather"), False),
            (grant("1", "allow", "defualt/*"), True),
            (grant("1", "allow", "planner"), True),
            (grant("1", "allow", "*planner", Level.NAMESPACE, "labs"), False),
            (grant("1", "allow", "*planner", Level.NAMESPACE, "Labs"), False),
            (grant("1", "allow", "*weather", Level.NAMESPACE, "labs"), True),
            (tool("1", "deny", "get_*"), False),
            (tool("1", "deny", "delete_*", "default/*"), True),
            (tool("1", "deny", "drop_*"), True),
            (tool("1", "deny", "os.*", kind=Kind.MODULE), False),
            (tool("1", "deny", "os.*", "nowhere/*", kind=Kind.MODULE), True),
        ],
    )
    def test_is_said_of_a_glob_that_fits_no_agent_or_known_tool(self, rule: Rule, is_odd: bool) -> None:
        assert oddities(rule) == ([Oddity.MATCHES_NOTHING.value] if is_odd else [])

    def test_says_what_to_do(self) -> None:
        rule = grant("1", "allow", "defualt/*")
        assert [remark.text for remark in Lint([rule]).remarks(rule, TOOLS)] == [
            "No agent fits defualt/* now. Check the spelling, unless the agent is to come."
        ]


class TestNeverSpeaks:
    @pytest.mark.parametrize(
        ("rule", "other", "is_silent"),
        [
            # For the same subject, the same glob: deny beats allow.
            (grant("1", "allow", "default/*"), grant("2", "deny", "default/*"), True),
            (grant("1", "deny", "default/*"), grant("2", "allow", "default/*"), False),
            (grant("1", "allow", "default/*"), grant("2", "deny", "DEFAULT/**"), True),
            # A wider one is less exact, and so is outranked.
            (grant("1", "allow", "default/weather"), grant("2", "deny", "*"), False),
            (grant("1", "deny", "*"), grant("2", "allow", "default/weather"), False),
            # Another subject's rule proves nothing, unless it is the namespace that the glob stays in.
            (grant("1", "allow", "*"), grant("2", "deny", "*", Level.KEY, 1), False),
            (grant("1", "allow", "*"), grant("2", "deny", "*", Level.TEAM, 1), False),
            (grant("1", "allow", "labs/planner"), grant("2", "deny", "*", Level.NAMESPACE, "labs"), True),
            (grant("1", "allow", "labs/planner"), grant("2", "deny", "*", Level.NAMESPACE, "default"), False),
            (grant("1", "allow", "*planner"), grant("2", "deny", "*", Level.NAMESPACE, "labs"), False),
            (grant("1", "allow", "labs/*"), grant("2", "deny", "labs/plan*", Level.NAMESPACE, "labs"), False),
            # Within a namespace `*` is all of its agents, and no wider than saying so.
            (
                grant("1", "deny", "*", Level.NAMESPACE, "labs"),
                grant("2", "allow", "labs/*", Level.NAMESPACE, "labs"),
                True,
            ),
            (
                grant("1", "deny", "labs/*", Level.NAMESPACE, "labs"),
                grant("2", "allow", "*", Level.NAMESPACE, "labs"),
                False,
            ),
        ],
    )
    def test_when_another_speaks_wherever_it_could(self, rule: Rule, other: Rule, is_silent: bool) -> None:
        assert (Oddity.NEVER_SPEAKS.value in oddities(rule, other)) is is_silent

    @pytest.mark.parametrize(
        ("rule", "other", "is_silent"),
        [
            (tool("1", "allow", "get_*"), tool("2", "deny", "get_*"), True),
            (tool("1", "allow", "get_*", "labs/*"), tool("2", "deny", "get_*"), False),  # the more exact about agents
            (tool("1", "allow", "get_*"), tool("2", "deny", "get_*", "labs/*"), False),
            (tool("1", "allow", "get_*"), tool("2", "deny", "get_*", kind=Kind.MODULE), False),
        ],
    )
    def test_tool_rules_are_compared_with_their_agents(self, rule: Rule, other: Rule, is_silent: bool) -> None:
        assert (Oddity.NEVER_SPEAKS.value in oddities(rule, other)) is is_silent

    def test_an_override_does_not_count_because_it_ends(self) -> None:
        rule = grant("1", "allow", "default/*")
        override = Rule("override-1", Kind.AGENT, Effect.DENY, "*", expires_at=NOW + timedelta(days=1))
        assert oddities(rule, override) == []
        assert Lint([rule]).silenced_by(override) is None

    def test_names_the_rule_that_speaks_in_its_place(self) -> None:
        rule, other = grant("1", "allow", "default/*"), grant("2", "deny", "default/*")
        assert [remark.text for remark in Lint([rule, other]).remarks(rule, TOOLS)] == [
            "It never speaks: “Deny agent default/* for everyone” does in its place. Remove one of the two."
        ]

    def test_what_is_called_silent_decides_nothing(self) -> None:
        """Every pair of rules of a small world: without the silent one every decision is the same."""
        globs = ["*", "**", "labs/*", "labs/plan*", "*planner", "labs/planner", "LABS/*", "default/*"]
        places: list[tuple[Level, int | str]] = [(Level.EVERYONE, ""), (Level.NAMESPACE, "labs"), (Level.KEY, 1)]
        rules = [
            grant(f"{number}", effect, glob, level, subject)
            for number, (effect, glob, (level, subject)) in enumerate(product(("allow", "deny"), globs, places))
        ]
        agents = ["labs/planner", "labs/plans", "labs/other", "default/planner", "default/weather"]
        silent = 0
        for rule, other in product(rules, rules):
            if Lint([rule, other]).silenced_by(rule) is None:
                continue
            silent += 1
            both, alone = Policy.of([rule, other]), Policy.of([other])
            for agent in agents:
                answers = [
                    decide(policy, Subject(Key(1, "k")), Action.CHAT, Target(agent), at=NOW).allowed
                    for policy in (both, alone)
                ]
                assert answers[0] == answers[1], (rule, other, agent)
        assert silent > 50

    def test_ten_thousand_rules_are_compared_in_seconds(self) -> None:
        rules = [grant(f"{number}", "allow", f"labs/agent-{number}") for number in range(10_000)]
        began = perf_counter()
        lint = Lint(rules)
        assert [rule for rule in rules[:1000] if lint.silenced_by(rule)] == []
        assert perf_counter() - began < 10
