"""POST /security/override, GET and DELETE /security/overrides."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from apps.access.models import ApiKey, Override
from apps.core import clock
from tests.admin_api.conftest import ADMIN, CHAT, Caller

URL = "/security/override"
DENY_TOOL = {"effect": "deny", "about": "tool", "pattern": "delete_*", "ttl": 3600, "reason": "Files vanished"}
ALLOW_ALL = {"effect": "allow", "pattern": "*", "ttl": 60, "reason": "for me"}
OWN_KEY = "A key cannot change what itself may do. Log in to the admin, or use another key."


def made(admin: Caller, **wanted: Any) -> Any:
    status, answer = admin.ask("POST", URL, {**DENY_TOOL, **wanted})
    assert status == 201, answer
    return answer


def in_force(admin: Caller, query: str = "") -> list[int]:
    _, answer = admin.ask("GET", f"/security/overrides{query}")
    return [one["id"] for one in answer["data"]]


def test_override_is_made_for_a_key_in_the_name_of_the_caller(admin: Caller, chat_key: ApiKey) -> None:
    answer = made(admin, key=chat_key.pk)

    row = Override.objects.get()
    times = {name: getattr(row, name).isoformat(timespec="milliseconds") for name in ("created_at", "expires_at")}
    assert 3590 <= answer.pop("seconds_left") <= 3600
    assert answer == {
        "id": row.pk,
        "key": {"id": chat_key.pk, "name": "Open WebUI"},
        "effect": "deny",
        "about": "tool",
        "pattern": "delete_*",
        "reason": "Files vanished",
        "author": "Automation",
        "state": "in force",
        **{name: time.replace("+00:00", "Z") for name, time in times.items()},
        "ended_at": None,
    }


def test_override_without_a_key_is_for_everyone_and_is_decided_by_at_once(admin: Caller, chat_key: ApiKey) -> None:
    override = made(admin)

    question = {"key": chat_key.pk, "action": "use_tool", "agent": "default/plain", "tool": "delete_file"}
    _, decided = admin.ask("POST", "/security/preview", question)

    assert (override["key"], decided["allowed"], decided["rule"]["id"]) == (None, False, f"override-{override['id']}")


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"ttl": 0}, "ttl"),
        ({"ttl": 90 * 86_400 + 1}, "ttl"),
        ({"reason": ""}, "reason"),
        ({"reason": "  "}, "reason"),
        ({"pattern": "a b"}, "pattern"),
        ({"about": "agent", "pattern": "ü"}, "pattern"),
        ({"effect": "maybe"}, "effect"),
        ({"key_id": 1}, "key_id"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(admin: Caller, wrong: dict[str, Any], param: str) -> None:
    status, answer = admin.ask("POST", URL, {**DENY_TOOL, **wrong})

    assert (status, answer["error"]["param"], Override.objects.count()) == (400, param, 0)


@pytest.mark.parametrize("key", [4711, 0, 2**70, "Nobody"])
def test_override_for_a_key_that_is_none_is_not_found(admin: Caller, key: int | str) -> None:
    status, answer = admin.ask("POST", URL, {**DENY_TOOL, "key": key})

    assert (status, answer["error"]["message"]) == (404, f"There is no key {key!r}.")


def test_those_in_force_are_listed_the_last_to_end_first_and_all_on_demand(admin: Caller) -> None:
    short, long, ended = made(admin, ttl=60), made(admin, ttl=120), made(admin, ttl=180)
    admin.ask("DELETE", f"/security/overrides/{ended['id']}")
    expired = Override.objects.create(
        effect="deny", pattern="x", reason="r", author="a", expires_at=clock.now() - timedelta(hours=1)
    )

    assert in_force(admin) == [long["id"], short["id"]]
    assert in_force(admin, "?all=true") == [ended["id"], long["id"], short["id"], expired.pk]
    _, answer = admin.ask("GET", "/security/overrides?all=true")
    assert [one["state"] for one in answer["data"]] == ["ended", "in force", "in force", "expired"]
    assert [one["seconds_left"] > 0 for one in answer["data"]] == [False, True, True, False]


def test_list_is_paged(admin: Caller) -> None:
    ids = [made(admin, ttl=60 * number)["id"] for number in (5, 4, 3, 2, 1)]

    _, answer = admin.ask("GET", "/security/overrides?limit=2&offset=1")

    assert ([one["id"] for one in answer["data"]], answer["total"]) == (ids[1:3], 5)


@pytest.mark.parametrize("query", ["limit=0", "limit=501", "offset=-1", "limit=x", "all=perhaps"])
def test_page_that_is_none_is_refused(admin: Caller, query: str) -> None:
    status, answer = admin.ask("GET", f"/security/overrides?{query}")

    assert (status, answer["error"]["param"]) == (400, query.partition("=")[0])


def test_override_is_taken_back_once(admin: Caller) -> None:
    override = made(admin)

    status, ended = admin.ask("DELETE", f"/security/overrides/{override['id']}")
    again, refusal = admin.ask("DELETE", f"/security/overrides/{override['id']}")

    assert (status, ended["state"], ended["seconds_left"]) == (200, "ended", 0)
    assert datetime.fromisoformat(ended["ended_at"]).utcoffset() == timedelta(0)
    assert (again, refusal["error"]["code"]) == (409, "override_over")


@pytest.mark.parametrize("override_id", ["4711", "99999999999999999999", "0", "x"])
def test_override_that_is_none_cannot_be_taken_back(admin: Caller, override_id: str) -> None:
    status, answer = admin.ask("DELETE", f"/security/overrides/{override_id}")

    assert (status, answer["error"]["param"]) == (404 if override_id == "4711" else 400, "override_id")


# --- no key widens itself --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wanted", [DENY_TOOL, ALLOW_ALL])
def test_admin_key_makes_no_override_for_itself(admin: Caller, admin_key: ApiKey, wanted: dict[str, Any]) -> None:
    status, answer = admin.ask("POST", URL, {**wanted, "key": admin_key.pk})

    assert (status, answer["error"]["code"], answer["error"]["message"]) == (403, "own_key", OWN_KEY)
    assert not Override.objects.exists()


def test_admin_key_that_cannot_chat_may_allow_something_for_everyone(admin: Caller) -> None:
    assert admin.ask("POST", URL, ALLOW_ALL)[0] == 201


def test_admin_key_that_may_chat_allows_nothing_for_everyone(admin: Caller, admin_key: ApiKey) -> None:
    admin_key.may_chat = True
    admin_key.save()

    assert (admin.ask("POST", URL, ALLOW_ALL)[0], admin.ask("POST", URL, DENY_TOOL)[0]) == (403, 201)


def test_admin_key_cannot_take_back_what_holds_it_in_check(admin: Caller, admin_key: ApiKey) -> None:
    admin_key.may_chat = True
    admin_key.save()
    ends = clock.now() + timedelta(hours=1)
    own = Override.objects.create(key=admin_key, effect="deny", pattern="*", reason="r", author="ann", expires_at=ends)
    of_all = Override.objects.create(effect="deny", pattern="*", reason="r", author="ann", expires_at=ends)

    refused = [admin.ask("DELETE", f"/security/overrides/{one.pk}")[0] for one in (own, of_all)]

    assert (refused, Override.objects.in_force(clock.now()).count()) == ([403, 403], 2)


def test_chat_key_may_do_nothing_here(admin: Caller, chat_key: ApiKey) -> None:
    override = made(admin)
    chat = Caller(admin.client, authorization=f"Bearer {CHAT}")
    asked = [("POST", URL, ALLOW_ALL), ("GET", "/security/overrides", None)]
    asked.append(("DELETE", f"/security/overrides/{override['id']}", None))

    answers = [chat.ask(*one) for one in asked]

    assert {(status, answer["error"]["message"]) for status, answer in answers} == {
        (403, "The API key lacks the scope 'admin'.")
    }


def test_credential_is_never_told(admin: Caller) -> None:
    """What is answered names keys, and holds no credential."""
    made(admin)
    other = Caller(admin.client, **{"x-api-key": ADMIN})

    _, answer = other.ask("GET", "/security/overrides?all=true")

    assert ADMIN not in str(answer)
