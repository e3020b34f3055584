from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.test import Client

from apps.access.keys import issue_key
from apps.access.limits.keeper import keeper
from apps.access.models import Denial, Team
from apps.access.overrides import override
from apps.access.policy import Effect
from apps.access.policy import Kind as About
from apps.audits.models import WorkerSeen
from apps.catalog.models import Diagnostic, DropIn, State
from apps.core import clock
from apps.execution.models import Outcome
from apps.upstreams.detect import add_demo
from apps.upstreams.models import Kind
from tests.console.test_agents import agent, diagnose, worker
from tests.console.test_runs import run
from tests.console.test_upstreams import upstream
from tests.factories import GrantFactory

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _scheduled_work_is_done(db: None) -> None:
    now = clock.now()
    WorkerSeen.objects.create(worker="box:1", started_at=now, seen_at=now)


def matters(client: Client) -> list[str]:
    return [matter.title for matter in client.get("/admin/").context["matters"]]


def test_fresh_installation_says_what_to_do_first(admin_client: Client) -> None:
    add_demo().make_default()
    assert matters(admin_client) == ["There are no agents yet.", "Only the built-in demo answers: no real model does."]


def test_nothing_to_do_is_said(admin_client: Client) -> None:
    agent("a")
    upstream(kind=Kind.OLLAMA).make_default()
    page = admin_client.get("/admin/").content.decode()
    assert "Everything serves as it should" in page


def test_what_needs_attention_is_named_with_its_page(admin_client: Client) -> None:
    bad = agent("bad", State.BROKEN)
    diagnose(bad)
    upstream(last_error="Nothing listens there.")
    issue_key("soon", expires_at=clock.now() + timedelta(days=2, hours=1))
    issue_key("later", expires_at=clock.now() + timedelta(days=20))
    shown = {matter.title: matter.link for matter in admin_client.get("/admin/").context["matters"]}
    assert list(shown) == [
        "default/bad: No module named 'requests'",
        "box is down: Nothing listens there.",
        "No enabled upstream is the default.",
        "The key “soon” expires in 2 days.",
    ]
    for link in shown.values():
        assert admin_client.get(link).status_code == 200


def test_what_concerns_a_folder_of_several_agents_leads_to_one_of_them(admin_client: Client) -> None:
    row = agent("desk.first", folder_id="default/desk")
    Diagnostic.objects.create(agent_id="default/desk", code="pinned_version", severity="warning", reason="An operator.")
    links = [one.link for one in admin_client.get("/admin/").context["matters"] if one.title.startswith("default/desk")]
    assert links == [f"/admin/catalog/dropin/{row.pk}/change/"]


def test_cards_count_what_serves(admin_client: Client) -> None:
    for name, state in [("a", State.LIVE), ("b", State.STALE), ("c", State.BROKEN), ("d", State.GONE)]:
        agent(name, state)
    upstream().make_default()
    issue_key("k")
    run(1)
    run(2, outcome=Outcome.FAILED)
    run(60 * 25)
    cards = {card.title: (card.number, card.text) for card in admin_client.get("/admin/").context["cards"]}
    assert cards == {
        "Agents": (2, "2 with a problem"),
        "Workers": (0, "none answers"),
        "Upstreams": (1, "default: box"),
        "API keys": (1, "in force"),
        "Runs in 24 h": (2, "1 failed"),
    }


@pytest.mark.parametrize(
    ("served", "text", "is_alarming"),
    [
        (["a1"], "answers", False),
        (["a1", "a1"], "serve the same versions", False),
        (["a1", "b2"], "disagree about 1 agent", True),
    ],
)
def test_workers_are_counted_and_compared(
    admin_client: Client, served: list[str], text: str, is_alarming: bool
) -> None:
    for version in served:
        worker({"default/a": version})
    worker({"default/a": "c3"}, silent_for=40)
    (card,) = [card for card in admin_client.get("/admin/").context["cards"] if card.title == "Workers"]
    assert (card.number, card.text, card.is_alarming) == (len(served), text, is_alarming)


def test_first_chat_names_an_agent_that_serves(admin_client: Client) -> None:
    agent("broken", State.BROKEN)
    agent("works")
    assert '"model": "default/works"' in admin_client.get("/admin/").context["first_chat"]


def test_matters_of_access_are_named_with_their_page(admin_client: Client) -> None:
    agent("a")
    upstream(kind=Kind.OLLAMA).make_default()
    now = clock.now()
    Team.objects.create(name="Support", suspended=True, suspended_reason="A key leaked.")
    given: dict[str, Any] = {"reason": "Demo day.", "author": "ada", "ttl": timedelta(hours=2, minutes=1)}
    key, _ = issue_key("k", agents=[])
    override(effect=Effect.ALLOW, about=About.AGENT, pattern="labs/*", **given)
    override(effect=Effect.DENY, about=About.AGENT, pattern="labs/*", **given)
    override(effect=Effect.ALLOW, about=About.AGENT, pattern="labs/*", key=key, **given)
    GrantFactory(agents="default/*")
    GrantFactory(agents="default/*", effect="deny")
    denial: dict[str, Any] = {"stage": "authorise", "code": "no_grant", "message": "No.", "first_at": now}
    Denial.objects.create(fingerprint="1", last_at=now - timedelta(minutes=59), **denial)
    Denial.objects.create(fingerprint="2", last_at=now - timedelta(minutes=61), **denial)
    shown = {one.title.replace("\xa0", " "): one.link for one in admin_client.get("/admin/").context["matters"]}
    assert list(shown) == [
        "The team “Support” is suspended.",
        "Everyone may use agent labs/*, for 2 hours more.",
        "“Allow agent default/* for everyone” never speaks.",
        "Access refused 1 kind of request in the last hour.",
    ]
    for link in shown.values():
        assert admin_client.get(link).status_code == 200


def test_few_of_many_silent_rules_are_named(admin_client: Client) -> None:
    for number in range(5):
        GrantFactory(agents=f"default/{number}")
        GrantFactory(agents=f"default/{number}", effect="deny")
    assert len([title for title in matters(admin_client) if title.endswith("never speaks.")]) == 3


@pytest.mark.parametrize("rows", [1, 3])
def test_costs_the_same_for_any_number_of_rows(
    admin_client: Client, count_queries: Callable[..., int], rows: int
) -> None:
    for number in range(rows):
        diagnose(agent(f"a{number}", State.BROKEN))
        upstream(f"box-{number}", last_error="x")
        issue_key(f"k{number}", expires_at=clock.now() + timedelta(days=3))
        run(number)
        Team.objects.create(name=f"team {number}", suspended=True)
        GrantFactory(agents=f"labs/{number}")
    assert count_queries(lambda: admin_client.get("/admin/")) == 27


def test_access_is_in_the_sidebar(admin_client: Client) -> None:
    groups = {group.get("title"): group["items"] for group in admin_client.get("/admin/").context["sidebar_navigation"]}
    items = {item["title"]: item["link"] for item in groups["Access"]}
    assert list(items) == [
        "API keys", "Teams", "Grants", "Tool rules", "Overrides", "Limits", "Explain", "Denials", "Modules",
        "Changes", "Users", "Groups",
    ]  # fmt: skip
    for link in items.values():
        assert admin_client.get(link).status_code == 200


def test_staff_without_permissions_sees_no_figures(django_user_model: Any) -> None:
    DropIn.objects.create(agent_id="default/secret", state=State.BROKEN)
    reader = django_user_model.objects.create_user("reader", password="x", is_staff=True)
    reader.user_permissions.add(Permission.objects.get(codename="view_run"))
    client = Client()
    client.force_login(reader)
    response = client.get("/admin/")
    assert (response.status_code, "cards" in response.context) == (200, False)
    assert "default/secret" not in response.content.decode()


@pytest.mark.parametrize("page", ["auth/user/", "auth/user/add/", "auth/group/", "auth/group/add/", "password_change/"])
def test_users_and_groups_have_pages(admin_client: Client, page: str) -> None:
    assert admin_client.get(f"/admin/{page}").status_code == 200


@pytest.mark.parametrize(
    "page",
    ["", "access/apikey/add/", "access/explain/", "access/grant/add/", "upstreams/upstream/add/", "catalog/dropin/"],
)
def test_pages_load_nothing_from_elsewhere(admin_client: Client, page: str) -> None:
    text = admin_client.get(f"/admin/{page}").content.decode()
    loaded = [part.split('"')[0] for mark in ('src="', 'rel="stylesheet" href="') for part in text.split(mark)[1:]]
    assert loaded
    assert [address for address in loaded if not address.startswith("/")] == []


def test_limits_that_are_not_enforced_are_urgent(admin_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "outage", "Connection refused.")

    first, *_ = admin_client.get("/admin/").context["matters"]

    assert first.title == "Limits are not enforced: the store that counts them (REDIS_URL) does not answer."
    assert (first.is_urgent, "Connection refused." in first.remedy) == (True, True)
