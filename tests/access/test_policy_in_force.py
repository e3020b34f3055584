"""What the database says is the policy that decides, key by key and rule by rule."""

from datetime import timedelta
from typing import Any

import pytest

from apps.access.authenticate import authenticate
from apps.access.decide import Action, Decision, Target, decide
from apps.access.keys import NotRotated, find_key, issue_key, rotate_key
from apps.access.models import AccessSettings, ApiKey, Grant, Override, Team, ToolRule
from apps.access.overrides import end_override, override
from apps.access.policy import Effect, Kind
from apps.access.policy_in_force import policy_in_force
from apps.access.subject import Subject
from apps.core import clock, live_config
from apps.core.errors import InvalidRequest, Unauthenticated

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _fresh() -> Any:
    live_config.forget()
    yield
    live_config.forget()


def subject_of(credential: str) -> Subject:
    live_config.refresh()
    return authenticate({"HTTP_X_API_KEY": credential})


def decided(credential: str, agent: str, action: Action = Action.CHAT, **target: str) -> Decision:
    subject = subject_of(credential)
    return decide(policy_in_force(), subject, action, Target(agent, **target), at=clock.now())


def make_override(**given: Any) -> Override:
    fields: dict[str, Any] = {"effect": Effect.DENY, "about": Kind.AGENT, "pattern": "labs/*", "reason": "incident"}
    return override(**(fields | {"ttl": timedelta(hours=1), "author": "tests"} | given))


def test_every_row_is_a_rule_as_it_says_itself() -> None:
    team = Team.objects.create(name="Lab")
    key, _ = issue_key("k", agents=["labs/*"], team=team)
    rows = [
        *Grant.objects.all(),
        Grant.objects.create(team=team, effect=Effect.DENY, agents="labs/secret", note="not yet"),
        Grant.objects.create(namespace="labs", effect=Effect.ALLOW, agents="*"),
        Grant.objects.create(effect=Effect.ALLOW, agents="default/*"),
        ToolRule.objects.create(key=key, effect=Effect.DENY, by="module", pattern="os.*", agents="labs/*"),
        make_override(key=key),
        make_override(about=Kind.TOOL, pattern="delete_*"),
    ]

    live_config.refresh()

    assert sorted(policy_in_force().rules(), key=str) == sorted((row.rule() for row in rows), key=str)


def test_key_without_grants_uses_what_its_team_the_namespace_and_everyone_have() -> None:
    team = Team.objects.create(name="Lab")
    _, credential = issue_key("k", agents=[], team=team)
    Grant.objects.create(team=team, effect=Effect.ALLOW, agents="labs/*")
    Grant.objects.create(namespace="default", effect=Effect.ALLOW, agents="*")
    Grant.objects.create(effect=Effect.ALLOW, agents="shared/helper")

    agents = ("labs/planner", "default/plain", "shared/helper", "shared/other")

    assert [decided(credential, agent).allowed for agent in agents] == [True, True, True, False]


def test_suspended_team_stops_its_keys_whatever_they_are_granted() -> None:
    team = Team.objects.create(name="Lab")
    _, credential = issue_key("k", team=team)
    before = decided(credential, "labs/planner").allowed

    team.suspended, team.suspended_reason = True, "Unpaid."
    team.save()
    after = decided(credential, "labs/planner")

    assert (before, after.allowed, after.code) == (True, False, "team_suspended")
    assert after.reason == "The team 'Lab' is suspended: Unpaid."


def test_deleting_a_team_leaves_its_keys_with_their_own_grants() -> None:
    team = Team.objects.create(name="Lab", suspended=True)
    _, credential = issue_key("k", team=team, agents=["labs/*"])

    team.delete()

    assert decided(credential, "labs/planner").allowed


def test_override_counts_until_it_ends_or_is_taken_back() -> None:
    key, credential = issue_key("k")
    made = make_override(key=key)
    during = decided(credential, "labs/planner")

    taken_back = [end_override(made, author="tests", at=clock.now()) for _ in range(2)]
    after = decided(credential, "labs/planner")

    assert (during.allowed, during.rule and during.rule.id) == (False, f"override-{made.pk}")
    assert (taken_back, after.allowed) == ([True, False], True)


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"pattern": "labs/pl anner"}, "pattern"),
        ({"pattern": ""}, "pattern"),
        ({"pattern": "a" * 201}, "pattern"),
        ({"about": Kind.TOOL, "pattern": "a b"}, "pattern"),
        ({"ttl": timedelta(0)}, "ttl"),
        ({"ttl": timedelta(days=-1)}, "ttl"),
        ({"ttl": timedelta(days=91)}, "ttl"),
        ({"reason": "  "}, "reason"),
    ],
)
def test_senseless_override_is_refused_by_its_field(given: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        make_override(**given)

    assert (caught.value.param, Override.objects.count()) == (param, 0)


def test_tools_are_allowed_until_a_rule_denies_them_by_name_or_module() -> None:
    key, credential = issue_key("k")
    ask = {"action": Action.USE_TOOL, "tool": "run", "module": "agents.labs.planner.agent"}
    at_first = decided(credential, "labs/planner", **ask).allowed  # type: ignore[arg-type]

    ToolRule.objects.create(effect=Effect.DENY, by="module", pattern="agents.labs.*")
    denied = decided(credential, "labs/planner", **ask)  # type: ignore[arg-type]
    ToolRule.objects.create(key=key, effect=Effect.ALLOW, by="module", pattern="*")
    allowed_for_the_key = decided(credential, "labs/planner", **ask).allowed  # type: ignore[arg-type]

    assert (at_first, denied.allowed, denied.code, allowed_for_the_key) == (True, False, "denied", True)


def test_inner_agents_obey_grants_once_that_is_set() -> None:
    _, credential = issue_key("k", agents=["labs/planner"])
    before = decided(credential, "labs/helper", Action.HAND_OVER).allowed

    AccessSettings(pk=AccessSettings.ROW, inner_agents_obey_grants=True).save()

    assert (before, decided(credential, "labs/helper", Action.HAND_OVER).allowed) == (True, False)


class TestRotation:
    def test_both_credentials_count_during_the_overlap_and_then_the_new_one(self) -> None:
        key, former = issue_key("k")
        now = clock.now()

        new = rotate_key(key, at=now, overlap=timedelta(minutes=5))

        live_config.refresh()
        inside, over = now + timedelta(minutes=4), now + timedelta(minutes=5)
        found = [find_key(credential, at) for credential in (former, new) for at in (inside, over)]
        assert [one and one.id for one in found] == [key.pk, None, key.pk, key.pk]

    def test_a_second_rotation_ends_the_oldest_credential(self) -> None:
        key, first = issue_key("k")
        second = rotate_key(key, at=clock.now())
        third = rotate_key(key, at=clock.now())

        live_config.refresh()
        assert [find_key(one) is not None for one in (first, second, third)] == [False, True, True]

    def test_of_two_rotations_at_once_the_slower_one_changes_nothing(self) -> None:
        key, former = issue_key("k")
        slower = ApiKey.objects.get(pk=key.pk)  # read before the other has written
        new = rotate_key(key, at=clock.now())

        with pytest.raises(NotRotated, match="at this moment"):
            rotate_key(slower, at=clock.now())

        live_config.refresh()
        assert [find_key(one) is not None for one in (former, new)] == [True, True]

    def test_key_that_was_revoked_meanwhile_is_not_rotated(self) -> None:
        key, _ = issue_key("k")
        ApiKey.objects.revoke(clock.now())

        with pytest.raises(NotRotated, match="cannot be rotated"):
            rotate_key(key, at=clock.now())

    def test_revoked_key_is_not_rotated(self) -> None:
        key, _ = issue_key("k")
        ApiKey.objects.revoke(clock.now())
        key.refresh_from_db()

        with pytest.raises(ValueError, match="cannot be rotated"):
            rotate_key(key, at=clock.now())

    def test_revoking_ends_the_former_credential_too(self) -> None:
        key, former = issue_key("k")
        new = rotate_key(key, at=clock.now())

        ApiKey.objects.revoke(clock.now())

        live_config.refresh()
        for credential in (former, new):
            with pytest.raises(Unauthenticated):
                authenticate({"HTTP_X_API_KEY": credential})


class TestWhereFrom:
    @pytest.mark.parametrize(
        ("address", "allowed"),
        [
            ("10.1.2.3", True),
            ("::ffff:10.1.2.3", True),
            ("192.0.2.7", True),
            ("192.0.2.8", False),
            ("2001:db8::1", True),
            ("2001:db9::1", False),
            ("", False),
            ("nonsense", False),
        ],
    )
    def test_key_counts_only_from_its_addresses(self, address: str, allowed: bool) -> None:
        _, credential = issue_key("k", ip_ranges=["10.0.0.0/8", "192.0.2.7", "2001:db8::/32"])
        live_config.refresh()

        subject = authenticate({"HTTP_X_API_KEY": credential, "REMOTE_ADDR": address})
        decision = decide(policy_in_force(), subject, Action.CHAT, Target("default/plain"), at=clock.now())

        assert (decision.allowed, decision.code) == ((True, "granted") if allowed else (False, "address"))

    @pytest.mark.parametrize(
        ("origin", "allowed"), [("https://a.example", True), ("https://b.example", False), ("", False)]
    )
    def test_key_counts_only_on_its_pages(self, origin: str, allowed: bool) -> None:
        _, credential = issue_key("k", origins=["https://a.example"])
        live_config.refresh()

        subject = authenticate({"HTTP_X_API_KEY": credential, "HTTP_ORIGIN": origin})
        decision = decide(policy_in_force(), subject, Action.LIST, Target(), at=clock.now())

        assert (decision.allowed, decision.code) == ((True, "allowed") if allowed else (False, "origin"))
