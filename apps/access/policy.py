"""The rules of access as values, and which of them speak about a request. Nothing here knows a database or a clock.

Precedence, the whole of it: an override in force beats every standing rule; a rule for the key beats one for its team,
that beats one for the agent's namespace, that beats one for everyone; of rules for the same subject the more exact glob
wins (no star beats any star, then more other characters); at a tie deny beats allow. No rule at all: agents are denied,
tools are allowed. docs/systems/security.md says the same to operators, tests/access/test_precedence.py proves it.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import IntEnum, StrEnum
from itertools import chain

import msgspec

from apps.core import globs
from apps.core.remember import remember


class Effect(StrEnum):
    ALLOW = "allow"
    DENY = "deny"


class Kind(StrEnum):
    """What a rule's glob is about."""

    AGENT = "agent"  # agent ids
    TOOL = "tool"  # the names that tools have for the model
    MODULE = "module"  # the dotted path of the module that a tool's function comes from


class Level(IntEnum):
    """Whom a rule is for; the higher one speaks first."""

    EVERYONE = 0
    NAMESPACE = 1  # whoever uses an agent of it
    TEAM = 2
    KEY = 3


Place = tuple[Level, int | str]


class Rule(msgspec.Struct, frozen=True, gc=False):
    """`id` is unique among all rules, such as `grant-12`. An override has `expires_at`; a standing rule has none."""

    id: str
    kind: Kind
    effect: Effect
    pattern: str
    level: Level = Level.EVERYONE
    subject: int | str = ""  # the id of the key or team, or the namespace
    agents: str = "*"  # only while an agent that fits this glob runs
    expires_at: datetime | None = None
    note: str = ""

    @property
    def is_override(self) -> bool:
        return self.expires_at is not None

    def is_in_force(self, at: datetime) -> bool:
        return self.expires_at is None or at < self.expires_at

    def fits(self, value: str, agent_id: str) -> bool:
        """Whether it speaks of this value while that agent runs. `os.*` is about the module `os`, too."""
        fits = globs.fits(value, self.pattern) or (self.kind is Kind.MODULE and globs.fits(f"{value}.", self.pattern))
        return fits and (self.agents == "*" or globs.fits(agent_id, self.agents))

    @property
    def place(self) -> Place:
        return self.level, self.subject.casefold() if isinstance(self.subject, str) else self.subject

    @property
    def precedence(self) -> tuple[object, ...]:
        """Of rules that fit the same target the one with the greatest precedence speaks. The id makes it certain."""
        exactness = globs.specificity(self.pattern), globs.specificity(self.agents)
        return self.is_override, self.level, exactness, self.effect is Effect.DENY, self.id


@dataclass(frozen=True, slots=True)
class TeamState:
    """`suspended` is the reason why all its keys are refused, empty when they are not."""

    name: str
    suspended: str = ""


_EVERYONE: Place = (Level.EVERYONE, "")
_FEW = 16  # rules that are looked through one by one


@dataclass(slots=True)
class Policy:
    """All rules in force, indexed by whom they are for.

    Which standing rules fit is remembered, so that the second request costs the same however many rules there are: for
    each key and target, and for each place, because what is said to everyone is looked up for every key. Share it
    between threads freely: what is remembered is the same whoever works it out.
    """

    teams: Mapping[int, TeamState] = field(default_factory=dict)
    inner_agents_obey_grants: bool = False
    _rules: Mapping[tuple[Kind, Place], tuple[Rule, ...]] = field(default_factory=dict)
    _overrides: Mapping[tuple[Kind, Place], tuple[Rule, ...]] = field(default_factory=dict)
    _remembered: dict[tuple[Kind, str, int, int | None, str], tuple[Rule, ...]] = field(default_factory=dict)
    _remembered_of_places: dict[tuple[Kind, Place, str, str], tuple[Rule, ...]] = field(default_factory=dict)
    _by_head: dict[tuple[Kind, Place], Mapping[str, list[Rule]]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        rules: Iterable[Rule],
        *,
        teams: Mapping[int, TeamState] | None = None,
        inner_agents_obey_grants: bool = False,
    ) -> "Policy":
        standing: dict[tuple[Kind, Place], list[Rule]] = defaultdict(list)
        overrides: dict[tuple[Kind, Place], list[Rule]] = defaultdict(list)
        for rule in rules:
            (overrides if rule.is_override else standing)[rule.kind, rule.place].append(rule)
        return cls(
            teams=teams or {},
            inner_agents_obey_grants=inner_agents_obey_grants,
            _rules={place: tuple(group) for place, group in standing.items()},
            _overrides={place: tuple(group) for place, group in overrides.items()},
        )

    def fitting(
        self, kind: Kind, value: str, *, key_id: int, team_id: int | None, agent_id: str, at: datetime
    ) -> tuple[Rule, ...]:
        """Every rule that speaks about `value` (an agent id, a tool's name or module), the one that decides first.

        `agent_id` is the agent that runs; for kind AGENT the same as `value`.
        """
        standing = self._standing(kind, value, key_id, team_id, agent_id)
        if not self._overrides:
            return standing
        overriding = [rule for rule in self.overrides(kind, key_id, at) if rule.fits(value, agent_id)]
        return (*sorted(overriding, key=_by_precedence, reverse=True), *standing)

    def overrides(self, kind: Kind, key_id: int, at: datetime) -> list[Rule]:
        """In force at `at`, for this key or for everyone."""
        return [
            rule
            for place in ((Level.KEY, key_id), _EVERYONE)
            for rule in self._overrides.get((kind, place), ())
            if rule.is_in_force(at)
        ]

    def with_overrides(self, further: Iterable[Rule]) -> "Policy":
        """The same policy as it would be with these overrides as well."""
        overrides = dict(self._overrides)
        for rule in further:
            place = rule.kind, rule.place
            overrides[place] = (*overrides.get(place, ()), rule)
        return replace(self, _overrides=overrides)

    def outlook(self, key_id: int, team_id: int | None, at: datetime) -> tuple[object, ...]:
        """Equal for keys that see the same agents, whatever those are: they go by rules that say the same."""
        own = self._rules.get((Kind.AGENT, (Level.KEY, key_id)), ())
        teams = self._rules.get((Kind.AGENT, (Level.TEAM, team_id)), ()) if team_id is not None else ()
        overrides = self.overrides(Kind.AGENT, key_id, at) if self._overrides else ()
        return tuple(tuple((rule.effect, rule.pattern) for rule in rules) for rules in (own, teams, overrides))

    def rules(self) -> Iterator[Rule]:
        """All of them, in no order."""
        for group in (*self._rules.values(), *self._overrides.values()):
            yield from group

    def _standing(self, kind: Kind, value: str, key_id: int, team_id: int | None, agent_id: str) -> tuple[Rule, ...]:
        question = (kind, value, key_id, team_id, agent_id)
        answer = self._remembered.get(question)
        if answer is None:
            of_places = [
                self._of_place(kind, place, value, agent_id)
                for place in _places(key_id, team_id, agent_id)
                if (kind, place) in self._rules
            ]
            answer = remember(self._remembered, question, tuple(chain.from_iterable(of_places)))
        return answer

    def _of_place(self, kind: Kind, place: Place, value: str, agent_id: str) -> tuple[Rule, ...]:
        question = (kind, place, value, "" if kind is Kind.AGENT else agent_id)
        answer = self._remembered_of_places.get(question)
        if answer is None:
            fitting = [rule for rule in self._candidates((kind, place), value) if rule.fits(value, agent_id)]
            in_order = tuple(sorted(fitting, key=_by_precedence, reverse=True))
            answer = remember(self._remembered_of_places, question, in_order)
        return answer

    def _candidates(self, place: tuple[Kind, Place], value: str) -> Iterable[Rule]:
        """Of many rules only those whose text before the first star `value` begins with."""
        rules = self._rules[place]
        if len(rules) <= _FEW:
            return rules
        by_head = self._by_head.get(place)
        if by_head is None:
            by_head = self._by_head[place] = _by_head(rules)
        folded = f"{value.casefold()}."  # see Rule.fits
        return (rule for end in range(len(folded) + 1) for rule in by_head.get(folded[:end], ()))


def _by_head(rules: Iterable[Rule]) -> Mapping[str, list[Rule]]:
    heads: dict[str, list[Rule]] = {}
    for rule in rules:
        heads.setdefault(rule.pattern.casefold().partition("*")[0], []).append(rule)
    return heads


def _by_precedence(rule: Rule) -> tuple[object, ...]:
    return rule.precedence


def _places(key_id: int, team_id: int | None, agent_id: str) -> tuple[Place, ...]:
    """Whose rules count, those that speak first first."""
    key, namespace = (Level.KEY, key_id), (Level.NAMESPACE, agent_id.partition("/")[0].casefold())
    if team_id is None:
        return key, namespace, _EVERYONE
    return key, (Level.TEAM, team_id), namespace, _EVERYONE
