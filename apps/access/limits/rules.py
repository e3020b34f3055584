"""Which limits count for a request, as values. Nothing here knows a database, a store or a clock.

Of the limits that count the same thing (per key, per user, per agent) exactly one applies: one for the key beats one
for its team, that beats one for everyone; of those the more exact glob over agent ids wins, then the older limit.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from hashlib import blake2b
from typing import NamedTuple

import msgspec

from apps.access.policy import Level, Place
from apps.core import globs
from apps.core.remember import remember


class Per(StrEnum):
    """Whose use is counted together."""

    KEY = "key"
    USER = "user"  # a person behind a key; the same id behind another key is somebody else
    AGENT = "agent"


class Quota(NamedTuple):
    """`name` is the field of a limit that holds its number."""

    name: str
    unit: str
    span: str


BURST, MINUTE, DAY, RUNS, TOKENS_MINUTE, TOKENS_DAY, USD_MONTH = range(7)
QUOTAS = (  # in that order
    Quota("burst", "requests", "per second"),
    Quota("requests_per_minute", "requests", "per minute"),
    Quota("requests_per_day", "requests", "per day"),
    Quota("concurrent_runs", "runs", "at once"),
    Quota("tokens_per_minute", "tokens", "per minute"),
    Quota("tokens_per_day", "tokens", "per day"),
    Quota("usd_per_month", "USD", "per month"),
)

_ADVERTISED = frozenset({MINUTE, DAY, TOKENS_MINUTE, TOKENS_DAY})


class LimitRule(msgspec.Struct, frozen=True, gc=False):
    """`numbers` are those of QUOTAS; None leaves that one unlimited."""

    id: int
    per: Per
    numbers: tuple[float | None, ...]
    level: Level = Level.EVERYONE
    subject: int | str = ""  # the id of the key or team
    agents: str = "*"

    @property
    def place(self) -> Place:
        return self.level, self.subject

    @property
    def exactness(self) -> tuple[object, ...]:
        """Of limits in the same place the one with the greatest comes first."""
        return globs.specificity(self.agents), -self.id

    @property
    def counts_moments(self) -> bool:
        """Whether single requests of the last minute have to be remembered."""
        return self.numbers[BURST] is not None or self.numbers[MINUTE] is not None


@dataclass(frozen=True, slots=True)
class Meter:
    """One thing that a limit counts: the use of a key, of a person, or of an agent. `id` names it in the store.

    `numbers` are those of its rule that limit something, each with its place in QUOTAS. `advertised` are those of them
    that every answer tells: requests and tokens, but no burst.
    """

    id: str
    rule: LimitRule
    numbers: tuple[tuple[int, float], ...] = field(init=False, repr=False, compare=False)
    advertised: tuple[tuple[int, float], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        limiting = tuple((place, number) for place, number in enumerate(self.rule.numbers) if number is not None)
        object.__setattr__(self, "numbers", limiting)
        object.__setattr__(self, "advertised", tuple(one for one in limiting if one[0] in _ADVERTISED))


_NO_RULES: Mapping[int, LimitRule] = {}
_EVERYONE: Place = (Level.EVERYONE, "")


@dataclass(slots=True)
class Book:
    """All limits, indexed by whom they are for; what was chosen is remembered, so their number costs nothing.

    Before `loaded_at` nobody counted by this book.
    """

    loaded_at: datetime
    rules: Mapping[int, LimitRule] = field(default_factory=lambda: _NO_RULES)
    _by_place: Mapping[tuple[Per, Place], tuple[LimitRule, ...]] = field(default_factory=dict)
    _chosen: dict[tuple[Per, Place, str], LimitRule | None] = field(default_factory=dict)
    _meters: dict[tuple[int, int | None, str, str], tuple[Meter, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, rules: Iterable[LimitRule], *, loaded_at: datetime) -> "Book":
        by_place: dict[tuple[Per, Place], list[LimitRule]] = defaultdict(list)
        for rule in sorted(rules, key=lambda rule: rule.exactness, reverse=True):
            by_place[rule.per, rule.place].append(rule)
        all_rules = {rule.id: rule for group in by_place.values() for rule in group}
        return cls(loaded_at, all_rules, {place: tuple(group) for place, group in by_place.items()})

    def meters(self, key_id: int, team_id: int | None, user_id: str, agent_id: str) -> tuple[Meter, ...]:
        """What counts for a request of this key and person (empty: nobody is named) to this agent. One for each Per."""
        question = (key_id, team_id, user_id, agent_id)
        answer = self._meters.get(question)
        if answer is None:
            answer = remember(self._meters, question, tuple(self._choose(*question)))
        return answer

    def _choose(self, key_id: int, team_id: int | None, user_id: str, agent_id: str) -> Iterator[Meter]:
        whose = {Per.KEY: str(key_id), Per.USER: _person(key_id, user_id), Per.AGENT: agent_id}
        team: list[Place] = [] if team_id is None else [(Level.TEAM, team_id)]
        places: list[Place] = [(Level.KEY, key_id), *team, _EVERYONE]
        for per, name in whose.items():
            rules = (self._first(per, place, agent_id) for place in places)
            if name and (rule := next((one for one in rules if one), None)):
                yield Meter(f"{rule.id}:{name}", rule)

    def _first(self, per: Per, place: Place, agent_id: str) -> LimitRule | None:
        rules = self._by_place.get((per, place))
        if rules is None:
            return None
        question = (per, place, agent_id)
        if question not in self._chosen:
            fitting = next((rule for rule in rules if globs.fits(agent_id, rule.agents)), None)
            return remember(self._chosen, question, fitting)
        return self._chosen[question]


def _person(key_id: int, user_id: str) -> str:
    """Of a fixed length, and not the person's id itself: the store need not know it."""
    if not user_id:
        return ""
    return f"{key_id}/{blake2b(user_id.encode('utf-8', 'surrogatepass'), digest_size=16).hexdigest()}"
