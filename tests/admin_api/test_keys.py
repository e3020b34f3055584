"""/admin/keys: issued, listed, rotated and revoked; and what a key may not give away."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from auditlog.models import LogEntry
from django.contrib.auth.models import User
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from apps.access.keys import find_key
from apps.access.limit_models import Limit
from apps.access.models import ApiKey, Grant, Override, Team, ToolRule
from apps.core import clock, live_config
from tests.admin_api.conftest import Caller, permit
from tests.factories import ApiKeyFactory

BOTH = "agw_both_of_the_tests_01234"
NEVER = {"expires_at": None, "revoked_at": None, "last_used_at": None, "former_counts_until": None}


@pytest.fixture
def ann(staff: User) -> Caller:
    """May do with keys what there is to do, by her session."""
    permit(staff, "access.view_apikey", "access.add_apikey", "access.change_apikey")
    client = Client()
    client.force_login(staff)
    return Caller(client)


def issuer(**fields: Any) -> Caller:
    """A key with both scopes that issues others."""
    ApiKeyFactory.create(name="Issuer", credential=BOTH, may_administer=True, **fields)
    return Caller(Client(), authorization=f"Bearer {BOTH}")


def in_days(days: float) -> str:
    return (clock.now() + timedelta(days=days)).isoformat()


def counts(credential: str) -> str | None:
    """Whose credential it is, for a request that comes now."""
    live_config.refresh()
    key = find_key(credential)
    return key.name if key and key.is_in_force(clock.now()) else None


# --- issuing ---------------------------------------------------------------------------------------------------------


def test_issued_key_is_told_once_and_can_be_used(ann: Caller) -> None:
    status, answer = ann.ask("POST", "/admin/keys", {"name": " Open WebUI ", "agents": ["default/*", "default/*"]})

    shown, credential = answer["key"], answer["credential"]
    assert (status, counts(credential), credential.startswith(shown["prefix"])) == (201, "Open WebUI", True)
    assert shown == {
        "id": ApiKey.objects.get().pk,
        "name": "Open WebUI",
        "owner": "",
        "team": None,
        "prefix": credential[:12],
        "state": "active",
        "scopes": ["chat"],
        "agents": ["default/*"],
        "addresses": [],
        "origins": [],
        "trusts_identity_headers": False,
        "created_at": shown["created_at"],
        "created_by": "ann",
        **NEVER,
    }
    assert ann.ask("GET", f"/admin/keys/{shown['id']}") == (200, shown)
    assert ann.ask("GET", "/admin/keys") == (200, {"data": [shown], "total": 1})
    assert credential not in json.dumps(list(LogEntry.objects.values("changes", "object_repr")))


def test_answer_with_a_credential_is_kept_by_no_cache(ann: Caller) -> None:
    answers = [
        ann.client.post(path, data, content_type="application/json")
        for path, data in (
            ("/admin/keys", {"name": "Web"}),
            (f"/admin/keys/{ApiKeyFactory.create().pk}/rotate", {}),
        )
    ]
    assert [(one.status_code, one.headers["Cache-Control"]) for one in answers] == [
        (201, "no-store"),
        (200, "no-store"),
    ]


def test_everything_of_a_key_can_be_asked_for(ann: Caller) -> None:
    Team.objects.create(name="Labs")
    wanted = {
        "name": "Web",
        "owner": "bob@example.com",
        "team": "Labs",
        "scopes": ["chat", "admin"],
        "agents": [],
        "addresses": ["10.0.0.0/8", "::1"],
        "origins": ["HTTPS://Chat.example.com:443/"],
        "trusts_identity_headers": True,
        "expires_at": "2126-01-01T00:00:00Z",
    }

    status, answer = ann.ask("POST", "/admin/keys", wanted)

    told = {name: answer["key"][name] for name in wanted}
    assert (status, told) == (201, {**wanted, "origins": ["https://chat.example.com"]})


@pytest.mark.parametrize(
    ("wanted", "param", "message"),
    [
        ({"name": ""}, "name", "Invalid 'name': String should have at least 1 character."),
        ({"name": "x" * 101}, "name", "Invalid 'name': String should have at most 100 characters."),
        ({"name": "Web", "scopes": []}, "scopes", "A key with no scope could do nothing: allow chat, admin or both."),
        ({"name": "Web", "scopes": ["root"]}, "scopes[0]", "Invalid 'scopes[0]': should be 'chat' or 'admin'."),
        ({"name": "Web", "expires_at": "2020-01-01T00:00:00Z"}, "expires_at", "A new key must end in the future."),
        ({"name": "Web", "expires_at": "2126-01-01T00:00:00"}, "expires_at", None),
        ({"name": "Web", "expiry": "2126-01-01T00:00:00Z"}, "expiry", None),
        ({"name": "Web", "agents": ["a b"]}, "agents[0]", None),
        ({"name": "Web", "addresses": ["home"]}, "addresses", None),
        ({"name": "Web", "origins": ["https://x.org/path"]}, "origins", None),
        ({"name": "Web", "origins": ["https://x.org:99999"]}, "origins", None),
        ({"name": "Web", "team": "None"}, "team", "There is no team 'None'."),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(ann: Caller, wanted: Any, param: str, message: str | None) -> None:
    status, answer = ann.ask("POST", "/admin/keys", wanted)

    assert (status, answer["error"]["param"], ApiKey.objects.count()) == (400, param, 0)
    assert message in (None, answer["error"]["message"])


def test_request_that_is_sent_twice_makes_one_key(ann: Caller, admin: Caller) -> None:
    mark = {"idempotency-key": "deploy-7"}
    first = ann.ask("POST", "/admin/keys", {"name": "Web"}, **mark)[1]["key"]["id"]
    status, answer = ann.ask("POST", "/admin/keys", {"name": "Web"}, **mark)

    told = f"This request made the key {first} before. Its credential cannot be told again: "
    told += f"POST /admin/keys/{first}/rotate gives it another one."
    assert (status, answer["error"]["code"], answer["error"]["message"]) == (409, "key_issued_before", told)
    # Another's mark, and no mark, are other requests.
    others = [
        admin.ask("POST", "/admin/keys", {"name": "Web", "scopes": ["admin"]}, **mark)[0],
        ann.ask("POST", "/admin/keys", {"name": "Web"})[0],
        ann.ask("POST", "/admin/keys", {"name": "Web"})[0],
    ]
    assert (others, ApiKey.objects.filter(name="Web").count()) == ([201, 201, 201], 4)


# --- what a key may give away ----------------------------------------------------------------------------------------


def test_what_is_left_out_is_as_of_the_key_that_asks(db: None) -> None:
    team = Team.objects.create(name="Labs")
    ends = datetime(2126, 1, 1, tzinfo=UTC)
    ranges, origins = ["10.0.0.0/8", "127.0.0.1"], ["https://chat.example.com"]
    asking = issuer(team=team, expires_at=ends, agents=["labs/*"], ip_ranges=ranges, origins=origins)

    status, answer = asking.ask("POST", "/admin/keys", {"name": "Web"}, origin=origins[0])

    names = ("team", "agents", "addresses", "origins", "scopes", "created_by")
    assert (status, [answer["key"][name] for name in names]) == (
        201,
        ["Labs", ["labs/*"], ranges, origins, ["chat"], None],
    )
    assert datetime.fromisoformat(answer["key"]["expires_at"]) == ends


@pytest.mark.parametrize(
    ("own", "wanted", "param"),
    [
        ({"may_chat": False}, {}, "scopes"),
        ({"agents": ["labs/*"]}, {"agents": ["labs/planner", "*"]}, "agents"),
        ({"agents": []}, {"agents": ["labs/planner"]}, "agents"),
        ({}, {"team": "Labs"}, "team"),
        ({"expires_at": 9}, {"expires_at": 10}, "expires_at"),
        ({"ip_ranges": ["127.0.0.0/8"]}, {"addresses": []}, "addresses"),
        ({"ip_ranges": ["127.0.0.0/8"]}, {"addresses": ["127.0.0.1", "10.0.0.0/30"]}, "addresses"),
        ({"ip_ranges": ["127.0.0.0/8"]}, {"addresses": ["::1"]}, "addresses"),
        ({"origins": ["https://a.org"]}, {"origins": []}, "origins"),
        ({}, {"trusts_identity_headers": True}, "trusts_identity_headers"),
    ],
)
def test_key_issues_none_that_can_do_more(db: None, own: Any, wanted: Any, param: str) -> None:
    Team.objects.create(name="Labs")
    own = {**own, **({"expires_at": clock.now() + timedelta(days=9)} if "expires_at" in own else {})}
    wanted = {**wanted, **({"expires_at": in_days(10)} if "expires_at" in wanted else {})}
    asking = issuer(**own)

    status, answer = asking.ask("POST", "/admin/keys", {"name": "More", **wanted}, origin="https://a.org")

    error = answer["error"]
    assert (status, error["code"], error["param"], ApiKey.objects.count()) == (403, "own_key", param, 1)
    assert error["message"].endswith("A key gives no more than it has: log in to the admin, or use another key.")


@pytest.mark.parametrize(
    ("own", "wanted"),
    [
        ({"may_chat": False}, {"scopes": ["admin"]}),
        ({"agents": ["labs/*", "default/a"]}, {"agents": ["labs/*planner", "default/a"]}),
        ({"ip_ranges": ["127.0.0.0/8"]}, {"addresses": ["127.0.0.0/16"]}),
        ({"trusts_identity_headers": True}, {"trusts_identity_headers": True}),
        ({"expires_at": 9}, {"expires_at": 8}),
    ],
)
def test_key_issues_one_that_can_do_as_much_or_less(db: None, own: Any, wanted: Any) -> None:
    own = {**own, **({"expires_at": clock.now() + timedelta(days=9)} if "expires_at" in own else {})}
    wanted = {**wanted, **({"expires_at": in_days(8)} if "expires_at" in wanted else {})}

    assert issuer(**own).ask("POST", "/admin/keys", {"name": "Less", **wanted})[0] == 201


def _deny_grant(key: ApiKey) -> None:
    Grant.objects.create(key=key, effect="deny", agents="labs/secret")


def _tool_rule(key: ApiKey) -> None:
    ToolRule.objects.create(key=key, effect="deny", pattern="delete_*")


def _override(key: ApiKey) -> None:
    Override.objects.create(
        key=key, effect="deny", pattern="labs/*", reason="r", expires_at=clock.now() + timedelta(hours=1)
    )


def _limit(key: ApiKey) -> None:
    Limit.objects.create(key=key, requests_per_minute=1)


@pytest.mark.parametrize("hold_back", [_deny_grant, _tool_rule, _override, _limit])
def test_key_that_is_held_back_by_rules_of_its_own_issues_none(db: None, hold_back: Any) -> None:
    asking = issuer()
    hold_back(ApiKey.objects.get())

    status, answer = asking.ask("POST", "/admin/keys", {"name": "Free", "agents": ["default/*"]})

    assert (status, answer["error"]["code"], ApiKey.objects.count()) == (403, "own_key", 1)


# --- rotating --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("body", "hours"), [(None, 24), ({"overlap": 3600}, 1), ({"overlap": 0}, 0)])
def test_rotated_key_has_another_credential_and_the_former_one_counts_on(
    ann: Caller, chat_key: ApiKey, body: Any, hours: int
) -> None:
    former = "agw_chat_of_the_tests_01234"
    status, answer = ann.ask("POST", f"/admin/keys/{chat_key.pk}/rotate", body)

    shown = answer["key"]
    assert (status, counts(answer["credential"]), shown["id"]) == (200, "Open WebUI", chat_key.pk)
    assert counts(former) == ("Open WebUI" if hours else None)
    until = shown["former_counts_until"]
    if hours:
        left = datetime.fromisoformat(until) - clock.now()
        assert timedelta(hours=hours, seconds=-20) < left <= timedelta(hours=hours)
    else:
        assert until is None


def test_key_rotates_itself_and_what_can_do_as_much(db: None) -> None:
    asking = issuer(agents=["labs/*"])
    own, less = ApiKey.objects.get(), ApiKeyFactory.create(name="Less", agents=["labs/a"])
    Limit.objects.create(key=own, requests_per_minute=5)

    assert asking.ask("POST", f"/admin/keys/{own.pk}/rotate")[0] == 200
    assert asking.ask("POST", f"/admin/keys/{less.pk}/rotate")[0] == 403  # it would be free of the limit
    Limit.objects.all().delete()
    assert asking.ask("POST", f"/admin/keys/{less.pk}/rotate")[0] == 200


def test_key_learns_no_credential_of_one_that_can_do_more(admin: Caller, chat_key: ApiKey) -> None:
    status, answer = admin.ask("POST", f"/admin/keys/{chat_key.pk}/rotate")

    assert (status, answer["error"]["code"], answer["error"]["param"]) == (403, "own_key", "scopes")
    chat_key.refresh_from_db()
    assert chat_key.previous_digest == ""


@pytest.mark.parametrize("free", [_limit, "tool", "override"])
def test_key_learns_no_credential_of_one_with_rules_of_its_own(db: None, free: Any) -> None:
    asking, other = issuer(), ApiKeyFactory.create()
    if free == "tool":
        ToolRule.objects.create(key=other, effect="allow", pattern="delete_*")
    elif free == "override":
        ends = clock.now() + timedelta(hours=1)
        Override.objects.create(key=other, effect="allow", pattern="labs/*", reason="r", expires_at=ends)
    else:
        free(other)

    assert asking.ask("POST", f"/admin/keys/{other.pk}/rotate")[0] == 403


def test_revoked_key_cannot_be_rotated(ann: Caller) -> None:
    key = ApiKeyFactory.create(revoked_at=clock.now())

    status, answer = ann.ask("POST", f"/admin/keys/{key.pk}/rotate")

    told = "A revoked key cannot be rotated; issue another one."
    assert (status, answer["error"]["code"], answer["error"]["message"]) == (409, "key_revoked", told)


@pytest.mark.parametrize("overlap", [-1, 604_801, "long"])
def test_overlap_that_is_none_is_refused(ann: Caller, chat_key: ApiKey, overlap: Any) -> None:
    status, answer = ann.ask("POST", f"/admin/keys/{chat_key.pk}/rotate", {"overlap": overlap})
    assert (status, answer["error"]["param"]) == (400, "overlap")


# --- revoking, listing -----------------------------------------------------------------------------------------------


def test_revoking_ends_a_key_for_good_and_may_be_repeated(admin: Caller, chat_key: ApiKey) -> None:
    first = admin.ask("POST", f"/admin/keys/{chat_key.pk}/revoke")
    second = admin.ask("POST", f"/admin/keys/{chat_key.pk}/revoke")

    assert (first[0], first[1]["state"], first == second) == (200, "revoked", True)
    assert counts("agw_chat_of_the_tests_01234") is None
    entry = LogEntry.objects.get(object_id=chat_key.pk, action=LogEntry.Action.UPDATE)  # one, by the key that asked
    assert (list(entry.changes), entry.additional_data["author"]) == (["revoked_at"], "Automation")


@pytest.mark.parametrize("path", ["/admin/keys/999", "/admin/keys/999/rotate", "/admin/keys/999/revoke"])
def test_key_that_is_none_is_not_found(ann: Caller, path: str) -> None:
    status, answer = ann.ask("GET" if path.endswith("999") else "POST", path)
    assert (status, answer["error"]["message"]) == (404, "There is no key 999. GET /admin/keys lists them.")


def test_keys_are_filtered_and_paged(ann: Caller) -> None:
    now, team = clock.now(), Team.objects.create(name="Labs", suspended=True)
    ApiKeyFactory.create(name="one", owner="Bob")
    ApiKeyFactory.create(name="two", expires_at=now - timedelta(hours=1))
    ApiKeyFactory.create(name="three", revoked_at=now)
    ApiKeyFactory.create(name="four", team=team, may_administer=True)

    def names(query: str) -> list[str]:
        return [one["name"] for one in ann.ask("GET", f"/admin/keys?{query}")[1]["data"]]

    assert names("") == ["four", "three", "two", "one"]
    assert [names(f"state={state}") for state in ("active", "expired", "revoked", "suspended")] == [
        ["one"],
        ["two"],
        ["three"],
        ["four"],
    ]
    assert (names("scope=admin"), names("team=Labs"), names("q=bob"), names("q=thr")) == (
        ["four"],
        ["four"],
        ["one"],
        ["three"],
    )
    assert (names("limit=1&offset=1"), ann.ask("GET", "/admin/keys?limit=1")[1]["total"]) == (["three"], 4)


@pytest.mark.parametrize("rows", [1, 3])
def test_list_costs_the_same_for_any_number_of_keys(
    ann: Caller, django_assert_num_queries: DjangoAssertNumQueries, rows: int
) -> None:
    for _ in range(rows):
        ApiKeyFactory.create(team=Team.objects.create(name=f"Team {ApiKey.objects.count()}"))

    with django_assert_num_queries(7):  # session, user, its permissions (2), keys, grants, count
        ann.client.get("/admin/keys")
