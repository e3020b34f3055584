"""POST /security/preview."""

from datetime import timedelta
from typing import Any

import pytest

from apps.access.models import ApiKey, Override, Team
from apps.access.overrides import override
from apps.access.policy import Effect, Kind
from apps.core import clock
from tests.admin_api.conftest import Caller
from tests.factories import ApiKeyFactory, GrantFactory

URL = "/security/preview"


def asked(admin: Caller, **question: Any) -> Any:
    status, answer = admin.ask("POST", URL, question)
    assert status == 200, answer
    return answer


def test_granted_chat_is_explained_by_the_rule_that_spoke(admin: Caller, chat_key: ApiKey) -> None:
    (grant,) = chat_key.grants.all()

    answer = asked(admin, key=chat_key.pk, agent="default/plain", at="2026-12-01T12:00:00+02:00")

    rule = {
        "id": f"grant-{grant.pk}",
        "in_words": "Allow agent default/* for the key",
        "kind": "agent",
        "effect": "allow",
        "pattern": "default/*",
        "level": "key",
        "subject": chat_key.pk,
        "agents": "*",
        "expires_at": None,
        "note": "",
    }
    passed = "The key is in force, its team, address, origin and scope are as they have to be."
    assert answer == {
        "allowed": True,
        "code": "granted",
        "reason": "Allowed.",
        "key": {"id": chat_key.pk, "name": "Open WebUI"},
        "at": "2026-12-01T10:00:00Z",
        "rule": rule,
        "considered": [rule],
        "steps": [
            {"text": passed, "outcome": "passed", "rule": None},
            {"text": "Allow agent default/* for the key", "outcome": "spoke", "rule": f"grant-{grant.pk}"},
        ],
        "limits": [],
    }


def test_key_may_be_named(admin: Caller, chat_key: ApiKey) -> None:
    assert asked(admin, key="Open WebUI", agent="default/plain")["key"]["id"] == chat_key.pk


def test_name_of_several_keys_is_refused(admin: Caller, chat_key: ApiKey) -> None:
    ApiKeyFactory.create(name="Open WebUI")

    status, answer = admin.ask("POST", URL, {"key": "Open WebUI"})

    told = "2 keys are called 'Open WebUI'; name one by its id."
    assert (status, answer["error"]["message"], answer["error"]["param"]) == (400, told, "key")


@pytest.mark.parametrize("key", [4711, "nobody", "agw_chat_of_the_tests_01234"])
def test_unknown_key_is_not_found_and_a_credential_names_none(admin: Caller, chat_key: ApiKey, key: int | str) -> None:
    status, answer = admin.ask("POST", URL, {"key": key})

    assert (status, answer["error"]["code"], answer["error"]["param"]) == (404, "not_found", "key")


@pytest.mark.parametrize(
    ("question", "allowed", "code"),
    [
        ({"agent": "labs/planner"}, False, "no_grant"),
        ({"action": "list", "agent": "default/plain"}, True, "granted"),
        ({"action": "administer"}, False, "scope"),
        ({"action": "use_tool", "agent": "default/plain", "tool": "delete_file"}, True, "allowed"),
        ({"action": "hand_over", "agent": "labs/planner"}, True, "allowed"),
    ],
)
def test_every_action_is_decided(
    admin: Caller, chat_key: ApiKey, question: dict[str, Any], allowed: bool, code: str
) -> None:
    answer = asked(admin, key=chat_key.pk, **question)

    assert (answer["allowed"], answer["code"]) == (allowed, code)


def test_rules_that_were_outranked_are_told_too(admin: Caller, chat_key: ApiKey) -> None:
    GrantFactory.create(key=chat_key, agents="default/plain", effect="deny", note="not yet")

    answer = asked(admin, key=chat_key.pk, agent="default/plain")

    assert [(step["text"], step["outcome"]) for step in answer["steps"][1:]] == [
        ("Deny agent default/plain for the key (not yet)", "spoke"),
        ("Allow agent default/* for the key", "outranked"),
    ]


def test_supposed_override_changes_the_answer_and_nothing_else(admin: Caller, chat_key: ApiKey) -> None:
    supposed = {"effect": "allow", "pattern": "labs/*", "ttl": 60}

    answer = asked(admin, key=chat_key.pk, agent="labs/planner", supposing=[supposed])

    assert (answer["allowed"], answer["rule"]["id"], answer["rule"]["level"]) == (True, "supposed-1", "key")
    assert not Override.objects.exists()
    assert asked(admin, key=chat_key.pk, agent="labs/planner")["allowed"] is False


def test_supposed_override_for_everyone_is_over_after_its_time(admin: Caller, chat_key: ApiKey) -> None:
    supposed = [{"effect": "deny", "pattern": "*", "ttl": 60, "everyone": True}]
    question = {"key": chat_key.pk, "agent": "default/plain", "supposing": supposed}

    now, later = asked(admin, **question), asked(admin, **question, at=(clock.now() + timedelta(hours=1)).isoformat())

    assert (now["allowed"], now["rule"]["level"], later["allowed"]) == (False, "everyone", True)


def test_supposed_glob_that_is_none_is_refused(admin: Caller, chat_key: ApiKey) -> None:
    supposed = [{"effect": "deny", "pattern": "über*", "ttl": 60}]

    status, answer = admin.ask("POST", URL, {"key": chat_key.pk, "supposing": supposed})

    assert (status, answer["error"]["param"]) == (400, "pattern")


def test_the_future_is_foretold(admin: Caller, chat_key: ApiKey) -> None:
    now = clock.now()
    chat_key.expires_at = now + timedelta(days=1)
    chat_key.save()
    override(
        effect=Effect.ALLOW,
        about=Kind.AGENT,
        pattern="labs/*",
        ttl=timedelta(hours=1),
        reason="a demo",
        author="ann",
        key=chat_key,
    )

    def codes(agent: str) -> list[str]:
        times = [now, now + timedelta(hours=2), now + timedelta(days=2)]
        return [asked(admin, key=chat_key.pk, agent=agent, at=at.isoformat())["code"] for at in times]

    assert codes("labs/planner") == ["granted", "no_grant", "key_ended"]


def test_address_origin_and_team_are_looked_at(admin: Caller, chat_key: ApiKey) -> None:
    chat_key.ip_ranges, chat_key.origins = ["10.0.0.0/8"], ["https://chat.example.com"]
    chat_key.save()
    place = {"address": "10.1.2.3", "origin": "https://chat.example.com"}

    def code(**question: Any) -> str:
        found: str = asked(admin, key=chat_key.pk, agent="default/plain", **question)["code"]
        return found

    assert (code(), code(address="10.1.2.3"), code(**place)) == ("address", "origin", "granted")
    chat_key.team = Team.objects.create(name="Labs", suspended=True)
    chat_key.save()
    assert code(**place) == "team_suspended"


def test_time_without_a_zone_is_refused(admin: Caller, chat_key: ApiKey) -> None:
    status, answer = admin.ask("POST", URL, {"key": chat_key.pk, "at": "2026-12-01T12:00:00"})

    assert (status, answer["error"]["param"]) == (400, "at")


def test_key_that_is_over_is_explained_too(admin: Caller, chat_key: ApiKey) -> None:
    chat_key.revoked_at = clock.now()
    chat_key.save()

    answer = asked(admin, key=chat_key.pk, agent="default/plain")

    assert (answer["code"], answer["steps"]) == (
        "key_ended",
        [{"text": "The API key is revoked or expired.", "outcome": "denied", "rule": None}],
    )
