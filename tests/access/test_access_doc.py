"""The worked example of docs/access.md is what the gateway decides."""

import re
from datetime import UTC, datetime
from pathlib import Path

from apps.access.decide import Action, Target, decide
from apps.access.import_keys import COLUMNS
from apps.access.policy import Effect, Kind, Level, Place, Policy, Rule
from apps.access.subject import Key, Subject

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "access.md").read_text()
KEYS = {"Web": Key(1, "Web", team_id=1), "Other": Key(2, "Other")}


def table(header: str) -> list[list[str]]:
    lines = TEXT[TEXT.index(header) :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip().strip("`") for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def place(whom: str) -> Place:
    kind, _, name = whom.partition(" ")
    return {
        "everyone": (Level.EVERYONE, ""),
        "namespace": (Level.NAMESPACE, name),
        "team": (Level.TEAM, 1),
        "key": (Level.KEY, 1),
    }[kind]  # type: ignore[return-value]


def test_worked_example_is_what_is_decided() -> None:
    rules = [
        Rule(f"grant-{number}", Kind.AGENT, Effect(effect), glob, *place(whom))
        for number, (whom, effect, glob) in enumerate(table("| for | effect | agents |"))
    ]
    rows = table("| key | agent | answer | because |")
    policy, at = Policy.of(rules), datetime(2026, 11, 25, tzinfo=UTC)
    decided = [
        decide(policy, Subject(KEYS[key]), Action.CHAT, Target(agent), at=at).allowed for key, agent, _, _ in rows
    ]
    assert decided == [answer == "allowed" for _, _, answer, _ in rows]
    assert len(rows) == 10


def test_columns_of_the_import_are_listed() -> None:
    assert tuple(row[0] for row in table("| column | |")) == COLUMNS
