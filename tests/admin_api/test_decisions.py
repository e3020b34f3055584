"""GET /security/decisions."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from apps.observability.models import ErrorEvent
from tests.admin_api.conftest import Caller

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)


def denied(number: int, *, stage: str = "authorise", **facts: Any) -> None:
    known = {"action": "chat", "target": "labs/planner", "rule": "", "key_id": 1, "user": "", "outcome": "denied"}
    at = NOON + timedelta(minutes=number)
    ErrorEvent.objects.create(
        stage=stage,
        code=facts.pop("code", "no_grant"),
        subject="Open WebUI",
        message="Refused.",
        facts={**known, **facts},
        request_id=f"req-{number}",
        fingerprint=str(number),
        count=number,
        first_at=NOON,
        last_at=at,
    )


@pytest.fixture
def _denials(db: None) -> None:
    denied(1)
    denied(2, key_id=2, target="labs/planner delete_file", action="use_tool", code="denied", rule="toolrule-3")
    denied(3, key_id=12, target="labs/plan", user="bob")
    denied(4, stage="execute")


def found(admin: Caller, query: str = "") -> list[str]:
    status, answer = admin.ask("GET", f"/security/decisions{query}")
    assert (status, answer["total"]) == (200, len(answer["data"]))
    return [one["request_id"] for one in answer["data"]]


@pytest.mark.usefixtures("_denials")
def test_denial_says_who_wanted_what_and_why_not(admin: Caller) -> None:
    _, answer = admin.ask("GET", "/security/decisions?key_id=2")

    assert answer == {
        "data": [
            {
                "key_id": 2,
                "key_name": "Open WebUI",
                "user": "",
                "action": "use_tool",
                "target": "labs/planner delete_file",
                "code": "denied",
                "reason": "Refused.",
                "rule": "toolrule-3",
                "count": 2,
                "first_at": "2026-11-25T12:00:00Z",
                "last_at": "2026-11-25T12:02:00Z",
                "request_id": "req-2",
            }
        ],
        "total": 1,
    }


@pytest.mark.usefixtures("_denials")
@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ["req-3", "req-2", "req-1"]),
        ("?key_id=1", ["req-1"]),
        ("?code=denied", ["req-2"]),
        ("?agent=labs/planner", ["req-2", "req-1"]),
        ("?agent=labs/plan", ["req-3"]),
        ("?since=2026-11-25T13:02:00%2B01:00", ["req-3", "req-2"]),
        ("?agent=labs/planner&code=no_grant", ["req-1"]),
        ("?code=nothing", []),
    ],
)
def test_denials_are_filtered_the_latest_first(admin: Caller, query: str, expected: list[str]) -> None:
    assert found(admin, query) == expected


@pytest.mark.usefixtures("_denials")
def test_denials_are_paged(admin: Caller) -> None:
    _, answer = admin.ask("GET", "/security/decisions?limit=1&offset=1")

    assert ([one["request_id"] for one in answer["data"]], answer["total"]) == (["req-2"], 3)


@pytest.mark.parametrize("query", ["key_id=x", "key_id=0", "since=yesterday", "code=%00", "agent=a%00"])
def test_filter_that_is_none_is_refused(admin: Caller, query: str) -> None:
    status, answer = admin.ask("GET", f"/security/decisions?{query}")

    assert (status, answer["error"]["param"]) == (400, query.partition("=")[0])
