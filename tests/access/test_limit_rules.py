"""Which limits count for a request: values only."""

from datetime import UTC, datetime
from typing import Any

import pytest

from apps.access.limits.rules import QUOTAS, Book, LimitRule, Meter, Per
from apps.access.policy import Level

NOBODY = (None,) * len(QUOTAS)
KEY, TEAM = (Level.KEY, 5), (Level.TEAM, 7)


def rule(id: int, place: tuple[Level, Any] = (Level.EVERYONE, ""), agents: str = "*", per: Per = Per.KEY) -> LimitRule:
    return LimitRule(id, per, NOBODY, *place, agents)


def book(*rules: LimitRule) -> Book:
    return Book.of(rules, loaded_at=datetime(2026, 11, 25, tzinfo=UTC))


def chosen(*rules: LimitRule, agent: str = "labs/planner", user: str = "", team: int | None = 7) -> list[int]:
    return [meter.rule.id for meter in book(*rules).meters(5, team, user, agent)]


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ([rule(1), rule(2, TEAM), rule(3, KEY)], [3]),
        ([rule(1), rule(2, TEAM)], [2]),
        ([rule(1), rule(2, (Level.KEY, 6)), rule(3, (Level.TEAM, 8))], [1]),
        ([rule(1, agents="labs/*"), rule(2, KEY, "*")], [2]),  # whom before where
        ([rule(1, agents="*"), rule(2, agents="labs/*"), rule(3, agents="LABS/planner")], [3]),
        ([rule(1, agents="default/*")], []),
        ([rule(2, agents="labs/*"), rule(1, agents="*lanner")], [1]),  # more characters
        ([rule(2, agents="*bs/*"), rule(1, agents="labs*")], [1]),  # the older one at a tie
    ],
)
def test_the_most_specific_limit_counts_alone(rules: list[LimitRule], expected: list[int]) -> None:
    assert chosen(*rules) == expected


def test_one_counts_for_each_thing_that_is_counted() -> None:
    rules = [rule(1), rule(2, per=Per.USER), rule(3, KEY, per=Per.AGENT), rule(4, per=Per.AGENT)]

    assert chosen(*rules, user="ann") == [1, 2, 3]
    assert chosen(*rules) == [1, 3]  # nobody is named


def test_key_without_a_team_is_held_by_no_team() -> None:
    assert chosen(rule(1, (Level.TEAM, 0)), team=None) == []


def test_meters_keep_apart_what_is_counted_apart() -> None:
    both = book(rule(1), rule(2, per=Per.USER), rule(3, per=Per.AGENT))

    def ids(key: int, user: str, agent: str) -> list[str]:
        return [meter.id for meter in both.meters(key, None, user, agent)]

    one = ids(5, "ann", "a/b")
    assert [a == b for a, b in zip(one, ids(6, "ann", "a/b"), strict=True)] == [False, False, True]
    assert [a == b for a, b in zip(one, ids(5, "bob", "a/b"), strict=True)] == [True, False, True]
    assert [a == b for a, b in zip(one, ids(5, "ann", "a/c"), strict=True)] == [True, True, False]


@pytest.mark.parametrize("user", ["a" * 10_000, "\ud800", "a\0b", "a b/c:d", "é"])
def test_person_is_named_in_the_store_by_a_digest(user: str) -> None:
    (meter,) = book(rule(1, per=Per.USER)).meters(5, None, user, "a/b")

    assert meter.id.isascii()
    assert len(meter.id) == len("1:5/") + 32


def test_choice_is_remembered_however_many_limits_there_are() -> None:
    many = book(*(rule(id, (Level.KEY, id)) for id in range(10_000)), rule(10_001, agents="labs/*"))

    first = many.meters(20_000, None, "", "labs/planner")

    assert first == (Meter("10001:20000", rule(10_001, agents="labs/*")),)
    assert many.meters(20_000, None, "", "labs/planner") is first
