"""GET /security/changes."""

from typing import Any

import pytest
from auditlog.models import LogEntry

from apps.access.models import ApiKey, Team
from apps.core import clock
from tests.admin_api.conftest import Caller

DENY = {"effect": "deny", "pattern": "labs/*", "ttl": 60, "reason": "maintenance"}


def changes(admin: Caller, query: str) -> Any:
    status, answer = admin.ask("GET", f"/security/changes{query}")
    assert status == 200
    return answer


def test_change_over_the_api_is_signed_by_its_key(admin: Caller, admin_key: ApiKey) -> None:
    _, override = admin.ask("POST", "/security/override", DENY)

    (change,) = changes(admin, "?type=access.override")["data"]

    author = {"name": "Automation", "user_id": None, "key_id": admin_key.pk, "address": "127.0.0.1"}
    assert (change["action"], change["author"]) == ("create", author)
    assert change["object"] == {
        "type": "access.override",
        "id": override["id"],
        "name": "deny agent labs/* for everyone",
    }
    expires = LogEntry.objects.get(pk=change["id"]).changes["expires_at"][1]
    assert {one["field"]: (one["old"], one["new"]) for one in change["changes"]} == {
        "effect": (None, "deny"),
        "about": (None, "agent"),
        "pattern": (None, "labs/*"),
        "reason": (None, "maintenance"),
        "author": (None, "Automation"),
        "expires_at": (None, f"{expires.replace(' ', 'T')}Z"),
    }


def test_change_without_a_request_is_the_commands(admin: Caller) -> None:
    team = Team.objects.create(name="Labs")
    team.suspended = True
    team.save()

    latest, first = changes(admin, f"?type=access.team&id={team.pk}")["data"]

    assert (latest["action"], latest["changes"]) == ("update", [{"field": "suspended", "old": False, "new": True}])
    assert latest["author"] == {"name": "command", "user_id": None, "key_id": None, "address": ""}
    assert (first["action"], first["object"]["name"]) == ("create", "Labs")


def test_deletion_tells_what_there_was(admin: Caller) -> None:
    Team.objects.create(name="Labs").delete()

    change = changes(admin, "?type=access.team")["data"][0]

    assert (change["action"], change["changes"]) == (
        "delete",
        [
            {"field": "name", "old": "Labs", "new": None},
            {"field": "suspended", "old": False, "new": None},
        ],
    )


def test_changes_are_filtered_by_time_and_paged(admin: Caller) -> None:
    Team.objects.create(name="Before")
    between = clock.now().isoformat().replace("+", "%2B")
    for name in ("one", "two", "three"):
        Team.objects.create(name=name)

    answer = changes(admin, f"?since={between}&limit=2&offset=1")

    assert ([one["object"]["name"] for one in answer["data"]], answer["total"]) == (["two", "one"], 3)


@pytest.mark.parametrize("query", ["type=access", "type=a.b;drop", "id=0", "since=x"])
def test_filter_that_is_none_is_refused(admin: Caller, query: str) -> None:
    status, answer = admin.ask("GET", f"/security/changes?{query}")

    assert (status, answer["error"]["param"]) == (400, query.partition("=")[0])
