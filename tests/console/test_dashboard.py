import json
import re
import shutil
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import partial
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import pytest
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import Client
from django.utils import timezone

from apps.access.keys import issue_key
from apps.access.limits.keeper import keeper
from apps.access.models import Denial, Team
from apps.access.overrides import override
from apps.access.policy import Effect
from apps.access.policy import Kind as About
from apps.audits import standing
from apps.audits.models import WorkerSeen
from apps.catalog.models import Diagnostic, DropIn, State
from apps.console.panels import history
from apps.console.panels.tiles import Tile
from apps.core import clock
from apps.core.write_behind import BatchWriter
from apps.execution.buckets import BUCKET, floor
from apps.execution.models import Approval, Outcome, RunBucket
from apps.observability.models import ErrorEvent
from apps.tools.models import McpServer, Tool
from apps.upstreams.detect import add_demo
from apps.upstreams.models import Kind, UpstreamHealth
from tests.console.test_agents import agent, diagnose, worker
from tests.console.test_runs import run
from tests.console.test_upstreams import upstream
from tests.factories import DeclaredAgentFactory, GrantFactory

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _roomy_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever the machine has left, and whatever an earlier test remembered of past days."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: Usage(0, 0, 10 * 1024**3))
    history.forget()
    yield
    history.forget()


class Usage(NamedTuple):
    """As shutil has it."""

    total: int
    used: int
    free: int


def matters(client: Client) -> list[str]:
    return [matter.title for matter in client.get("/admin/").context["matters"]]


def verdict(client: Client) -> tuple[str, str]:
    found = client.get("/admin/").context["verdict"]
    return found.word, found.text


def tile(client: Client, title: str) -> Tile:
    found = {one.title: one for one in client.get("/admin/").context["tiles"]}
    shown: Tile = found[title]
    return shown


def celery_worker() -> None:
    WorkerSeen.objects.create(worker="box:9", started_at=clock.now(), seen_at=clock.now(), has_beat=True)


def all_well() -> None:
    worker({})
    celery_worker()
    agent("a")
    upstream(kind=Kind.OLLAMA, models_read_at=clock.now(), default_model="m").make_default()


def bucket(ago: timedelta = timedelta(), agent_id: str = "default/a", **counts: Any) -> RunBucket:
    """Ten runs, of which most took half a second, unless the test says otherwise."""
    known: dict[str, Any] = {
        "runs": 10, "took_500": 9, "took_10000": 1, "duration_ms": 8000, "first_event_ms": 3000, "with_first_event": 10,
        "prompt_tokens": 900, "completion_tokens": 100, "cost_usd": 0.02,
    }  # fmt: skip
    return RunBucket.objects.create(began_at=floor(clock.now() - ago, BUCKET), agent_id=agent_id, **known | counts)


def test_fresh_installation_says_what_to_do_first(admin_client: Client) -> None:
    worker({})
    celery_worker()
    add_demo().make_default()
    assert matters(admin_client) == ["There are no agents yet.", "Only the built-in demo answers: no real model does."]
    assert verdict(admin_client) == ("Ready", "Nothing serves yet. 2 matters to look at when you have time.")
    assert "No runs in the last 24 hours. Try this:" in admin_client.get("/admin/").content.decode()


def test_nothing_to_do_is_said(admin_client: Client) -> None:
    all_well()
    assert verdict(admin_client) == ("All is well", "Everything serves as it should.")
    assert matters(admin_client) == []


def test_something_that_is_down_is_named_first_of_all(admin_client: Client) -> None:
    all_well()
    agent("old", State.STALE)
    agent("bad", State.BROKEN)
    UpstreamHealth.objects.create(
        worker="box:1", upstream=upstream("gpu"), state="down", reason="It is away.",
        since=clock.now() - timedelta(minutes=42, seconds=1), seen_at=clock.now(),
    )  # fmt: skip
    assert verdict(admin_client) == ("Something is down", "1 agent is broken; upstream gpu is down.")
    assert "gpu is down for 42\xa0minutes: It is away." in matters(admin_client)


def test_what_is_urgent_needs_attention_where_nothing_is_down(admin_client: Client) -> None:
    all_well()
    issue_key("soon", expires_at=clock.now() + timedelta(days=2, hours=1))
    assert verdict(admin_client) == ("Needs attention", "The key “soon” expires in 2 days.")
    DropIn.objects.update(state=State.STALE)
    assert verdict(admin_client) == ("Needs attention", "1 agent serves its last good version.")


def test_what_needs_attention_is_named_with_its_page(admin_client: Client) -> None:
    worker({})
    celery_worker()
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


def test_tiles_tell_the_state_of_each_part(admin_client: Client) -> None:
    for name, state in [("a", State.LIVE), ("b", State.STALE), ("c", State.BROKEN), ("d", State.GONE)]:
        agent(name, state)
    worker({})
    upstream(models_read_at=clock.now(), kind=Kind.OLLAMA, default_model="m").make_default()
    DeclaredAgentFactory.create(name="first", stage="live", model="", tools=["none_such"])
    DeclaredAgentFactory.create(name="second", stage="draft")
    for slug, state in [("one", "connected"), ("two", "down"), ("three", "")]:
        McpServer(slug=slug, url="http://127.0.0.1:9/mcp", state=state, state_since=clock.now()).save()
    Tool(name="search", kind="http", url="http://127.0.0.1:9/").save()
    Tool(name="lost", kind="local", function="no_such.module").save()
    shown = {one.title: (one.level.name, one.number, one.word, one.text) for one in tiles(admin_client)}
    assert shown == {
        "Agents": ("DOWN", "2 of 4", "Broken", "1 broken, 1 in the last good version, 1 gone"),
        "Declared agents": ("WELL", "1", "Serving", "1 not published"),
        "Upstreams": ("WELL", "1 of 1", "Answering", "default: box"),
        "Tools": ("ATTENTION", "1", "Out of use", "1 cannot be imported"),
        "MCP servers": ("DOWN", "1 of 3", "Down", "1 down"),
        "Workers": ("WELL", "1", "Answering", "serves"),
        "Limits": ("IDLE", "0", "None", "everyone may use as much as they like"),
    }
    for one in tiles(admin_client):
        assert admin_client.get(one.link).status_code == 200


def tiles(client: Client) -> list[Tile]:
    found: list[Tile] = client.get("/admin/").context["tiles"]
    return found


def test_what_a_declared_agent_lacks_is_a_matter_with_its_page(admin_client: Client) -> None:
    all_well()
    DeclaredAgentFactory.create(name="first", stage="live", model="", tools=["none_such"])
    (found,) = admin_client.get("/admin/").context["matters"]
    assert found.title.startswith("default/first: The gateway has no tool 'none_such'")
    assert [row.name for row in admin_client.get(found.link).context["cl"].result_list] == ["first"]


@pytest.mark.parametrize(
    ("served", "level", "text"),
    [
        ([], "DOWN", "nobody serves"),
        (["a1"], "WELL", "serves"),
        (["a1", "a1"], "WELL", "serve the same versions"),
        (["a1", "b2"], "ATTENTION", "disagree about 1 agent"),
    ],
)
def test_workers_are_counted_and_compared(admin_client: Client, served: list[str], level: str, text: str) -> None:
    for version in served:
        worker({"default/a": version})
    worker({"default/a": "c3"}, silent_for=40)
    shown = tile(admin_client, "Workers")
    assert (shown.number, shown.level.name, shown.text) == (f"{len(served)}", level, text)


def test_first_chat_names_an_agent_that_serves(admin_client: Client) -> None:
    agent("broken", State.BROKEN)
    agent("works")
    assert '"model": "default/works"' in admin_client.get("/admin/").context["first_chat"]


def test_matters_of_access_are_named_with_their_page(admin_client: Client) -> None:
    all_well()
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
    admin_client: Client, count_queries: Callable[..., int], monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    monkeypatch.setattr(standing.keeper, "known", standing.Standing(clock.now()))  # as in a server process
    for number in range(rows):
        diagnose(agent(f"a{number}", State.BROKEN))
        upstream(f"box-{number}", last_error="x")
        issue_key(f"k{number}", expires_at=clock.now() + timedelta(days=3))
        run(number)
        bucket(agent_id=f"default/a{number}")
        Team.objects.create(name=f"team {number}", suspended=True)
        GrantFactory(agents=f"labs/{number}")
        DeclaredAgentFactory.create(stage="live")
        McpServer(slug=f"server{number}", url="http://127.0.0.1:9/mcp").save()
        failure(f"{number}")
    admin_client.get("/admin/")  # what changes with the configuration only is remembered
    assert count_queries(lambda: admin_client.get("/admin/")) == 18
    assert count_queries(lambda: admin_client.get("/admin/dashboard/")) == 18


def failure(subject: str, **fields: Any) -> ErrorEvent:
    known: dict[str, Any] = {"stage": "execute", "code": "upstream_timeout", "message": "It was silent."}
    known |= {"fingerprint": subject, "first_at": clock.now(), "last_at": clock.now()}
    return ErrorEvent.objects.create(subject=subject, **known | fields)


# --- what ran --------------------------------------------------------------------------------------------------------


def drawn(client: Client, **query: str) -> dict[str, Any]:
    """What the script is given: by chart and line, and the labels."""
    page = client.get("/admin/", query).content.decode()
    found = re.search(r'<script id="dash-charts" type="application/json">(.*?)</script>', page)
    assert found
    told = json.loads(found[1])
    lines = {(chart["key"], line["name"]): line["values"] for chart in told["charts"] for line in chart["lines"]}
    return {**told, "lines": lines}


P50: Any = pytest.approx(250 + 250 * 5 / 9)  # the fifth of nine runs that took 250 to 500 ms


def test_charts_have_a_point_for_every_step_and_gaps_where_nothing_ran(admin_client: Client) -> None:
    bucket(failed=2, refused=1, cancelled=1)
    bucket(timedelta(hours=3), agent_id="default/b", runs=4, failed=1)
    bucket(timedelta(hours=25))
    told = drawn(admin_client)
    lines = told["lines"]
    last = {key: values[-1] for key, values in lines.items()}
    assert (len(told["labels"]), len(told["moments"]), {len(values) for values in lines.values()}) == (145, 145, {145})
    assert last == {
        ("requests", "Completed"): 6, ("requests", "Refused"): 1, ("requests", "Cancelled"): 1,
        ("requests", "Failed"): 2, ("errors", "Failed"): 20, ("durations", "p50: half of the runs"): P50,
        ("durations", "p95: 95 of 100"): 7500, ("first-events", "Mean"): 300, ("tokens", "In"): 900,
        ("tokens", "Out"): 100, ("costs", "Cost"): 0.02,
    }  # fmt: skip
    assert sum(lines["requests", "Completed"]) == 9
    assert [values[-2] for key, values in lines.items() if key[0] in ("errors", "durations", "first-events")] == [
        None
    ] * 4
    assert lines["requests", "Completed"][-2] == 0


def test_charts_are_told_in_words(admin_client: Client) -> None:
    bucket(failed=2, refused=1)
    bucket(timedelta(hours=3), runs=20, failed=1, cost_usd=0, took_500=20, took_10000=0)
    at = f"{timezone.localtime(floor(clock.now() - timedelta(hours=3), BUCKET)):%a {clock.now().day} %b %H:%M}"
    told = {one.key: (one.number, one.summary) for one in admin_client.get("/admin/").context["charts"].charts}
    assert told["errors"][0] == "10 %"
    assert told["durations"][1] == "Half of the runs took at most 379 ms, 95 of 100 at most 496 ms."
    assert told["tokens"] == ("2,000", "1,800 in, 200 out; 67 a run on average.")
    assert told["requests"][0] == "30"
    assert told["requests"][1].startswith("26 completed, 3 failed, 1 refused. The most at ")
    assert at.rsplit(maxsplit=1)[-1] in told["requests"][1]


@pytest.mark.parametrize(("query", "length", "points"), [("7d", 7, 169), ("30d", 30, 121), ("else", 1, 145)])
def test_ranges_reach_back(admin_client: Client, query: str, length: int, points: int) -> None:
    now = clock.now()
    since = floor(now - timedelta(days=length), {1: BUCKET, 7: timedelta(hours=1), 30: timedelta(hours=6)}[length])
    for days in range(length):
        bucket(timedelta(days=days, minutes=5))
    bucket(now - since + timedelta(minutes=10))  # just before
    for _ in range(2):  # read, and remembered
        told = drawn(admin_client, range=query)
        assert (len(told["labels"]), sum(told["lines"]["requests", "Completed"])) == (points, 10 * length)


def test_past_days_are_asked_for_once(admin_client: Client, count_queries: Callable[..., int]) -> None:
    for days in range(30):
        bucket(timedelta(days=days))
    admin_client.get("/admin/")
    today, month, again = (
        count_queries(partial(admin_client.get, "/admin/", query)) for query in [{}, {"range": "30d"}, {"range": "30d"}]
    )
    assert (month - today, again - today) == (1, 0)


def test_charts_of_one_agent(admin_client: Client) -> None:
    bucket()
    bucket(agent_id="default/b", runs=3, took_500=3, took_10000=0)
    assert drawn(admin_client, agent="default/b")["lines"]["requests", "Completed"][-1] == 3
    page = admin_client.get("/admin/", {"agent": "<b>nobody"}).content.decode()
    assert "No runs of &lt;b&gt;nobody in the last 24 hours. Try this:" in page
    assert "<b>nobody" not in page


def test_names_cannot_leave_their_place_on_the_page(admin_client: Client) -> None:
    evil = "x/</script><script>alert(1)</script>"
    bucket(agent_id=evil, failed=10)
    failure(evil, message=evil, remedy=evil)
    run(1, agent_id=evil, outcome=Outcome.FAILED)
    assert "<script>alert" not in admin_client.get("/admin/", {"agent": evil}).content.decode()


def test_times_are_those_of_the_gateway_and_it_says_which(admin_client: Client) -> None:
    bucket()
    began_at: datetime = RunBucket.objects.get().began_at + timedelta(hours=5, minutes=30)
    with timezone.override(ZoneInfo("Asia/Kolkata")):
        assert drawn(admin_client)["labels"][-1] == f"{began_at:%H:%M}"
        assert "Times: Asia/Kolkata" in admin_client.get("/admin/").content.decode()


def test_top_lists_name_the_busiest_the_failing_and_the_slowest(admin_client: Client) -> None:
    bucket(agent_id="default/busy", runs=90, took_500=90, took_10000=0)
    bucket(agent_id="default/bad", runs=10, failed=6, took_500=10, took_10000=0)
    bucket(agent_id="default/slow", runs=2, took_500=0, took_10000=2)
    bucket(timedelta(days=2), agent_id="default/old", runs=1000)
    shown = {
        one.title: [(top.agent_id, top.number, top.share) for top in one.tops]
        for one in admin_client.get("/admin/").context["top_lists"]
    }
    assert shown["Busiest"] == [
        ("default/busy", "90 runs", 100), ("default/bad", "10 runs", 11), ("default/slow", "2 runs", 2),
    ]  # fmt: skip
    assert shown["Most failures"] == [("default/bad", "6 of 10 (60 %)", 100)]
    assert shown["Slowest"][0] == ("default/slow", "p95 9.8 s", 100)


def test_last_failures_have_a_count_and_a_remedy(admin_client: Client) -> None:
    failure("default/a", count=12, remedy="Raise its time-out.")
    page = admin_client.get("/admin/").content.decode()
    assert re.search(r"12 times, <span [^>]+>0 seconds ago<", page)
    assert "Raise its time-out." in page


# --- further matters -------------------------------------------------------------------------------------------------


def test_agent_that_fails_often_is_a_matter(admin_client: Client) -> None:
    all_well()
    bucket(runs=20, failed=12)
    bucket(agent_id="default/b", runs=4, failed=4)  # too few to say anything
    bucket(agent_id="default/c", runs=100, failed=19)
    bucket(timedelta(hours=2), agent_id="default/d", runs=100, failed=90)
    run(1, outcome=Outcome.FAILED)
    run(2)
    (found,) = admin_client.get("/admin/").context["matters"]
    assert (found.title, found.is_urgent) == ("default/a: 12 of 20 runs of the last hour failed (60 %).", True)
    assert [row.pk for row in admin_client.get(found.link).context["cl"].result_list] == ["run_1"]


def test_approvals_that_wait_are_a_matter(admin_client: Client) -> None:
    all_well()
    now = clock.now()
    for number, decided, hours in [(1, None, 1), (2, None, 1), (3, now, 1), (4, None, -1)]:
        Approval.objects.create(
            id=f"apv_{number}", agent_id="default/a", key_id=1, calls=[], decided_at=decided,
            created_at=now - timedelta(hours=number, seconds=5), expires_at=now + timedelta(hours=hours),
        )  # fmt: skip
    assert matters(admin_client) == ["2 runs wait for a person's approval, the oldest for 2\xa0hours."]


@pytest.mark.parametrize(("megabytes", "is_urgent"), [(900, False), (100, True)])
def test_disk_that_is_nearly_full_is_a_matter(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch, megabytes: int, is_urgent: bool
) -> None:
    all_well()
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: Usage(0, 0, megabytes * 1024**2))
    found = admin_client.get("/admin/").context["matters"]
    if connection.vendor != "sqlite":
        assert found == []
        return
    title = f"The disk of the data folder is nearly full: {megabytes}.0\xa0MB left."
    assert [(one.title, one.is_urgent) for one in found] == [(title, is_urgent)]


def test_rows_that_were_lost_are_a_matter(admin_client: Client) -> None:
    all_well()
    writer: BatchWriter[int] = BatchWriter("numbers", lambda _items: None)
    writer.start()
    writer.stop()
    writer.lost, writer.dropped = 3, 1
    assert matters(admin_client) == [
        "This worker could not store 3 rows of numbers: they are lost.",
        "This worker dropped 1 row of numbers: there were too many at once.",
    ]


def test_celery_worker_that_is_not_there_is_a_matter(admin_client: Client) -> None:
    all_well()
    WorkerSeen.objects.all().delete()
    assert matters(admin_client) == ["No Celery worker runs: nothing is done on schedule."]


def test_urgent_matters_come_first(admin_client: Client) -> None:
    all_well()
    Diagnostic.objects.create(agent_id="default/a", code="own_model", severity="warning", reason="Own.", remedy="-")
    issue_key("soon", expires_at=clock.now() + timedelta(days=2, hours=1))
    assert matters(admin_client) == ["The key “soon” expires in 2 days.", "default/a: Own."]


def test_few_of_many_of_a_kind_are_named(admin_client: Client) -> None:
    worker({})
    for number in range(10):
        diagnose(agent(f"a{number}", State.BROKEN))
        upstream(f"box-{number}", last_error="x")
    titles = matters(admin_client)
    assert len([one for one in titles if one.startswith("default/")]) == 8
    assert len([one for one in titles if one.startswith("box-")]) == 8


def test_access_is_in_the_sidebar(admin_client: Client) -> None:
    groups = {group.get("title"): group["items"] for group in admin_client.get("/admin/").context["sidebar_navigation"]}
    items = {item["title"]: item["link"] for item in groups["Access"]}
    assert list(items) == [
        "API keys", "Teams", "Grants", "Tool rules", "Overrides", "Limits", "Explain", "Denials", "Module rules",
        "Changes", "Users", "Groups",
    ]  # fmt: skip
    for link in items.values():
        assert admin_client.get(link).status_code == 200


def staff(django_user_model: Any, *codenames: str) -> Client:
    reader = django_user_model.objects.create_user("reader", password="x", is_staff=True)
    reader.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    client = Client()
    client.force_login(reader)
    return client


def everything() -> None:
    diagnose(agent("secret", State.BROKEN))
    upstream("hidden", last_error="No.")
    bucket(agent_id="default/secret", failed=9)
    run(1, agent_id="default/secret")
    failure("default/secret", message="The words of an error.")
    issue_key("soon", expires_at=clock.now() + timedelta(days=1, hours=1))


def test_staff_without_permissions_sees_no_figures(django_user_model: Any) -> None:
    everything()
    client = staff(django_user_model)
    response = client.get("/admin/")
    assert (response.status_code, "tiles" in response.context) == (200, False)
    assert "default/secret" not in response.content.decode()
    assert client.get("/admin/dashboard/").status_code == 403


@pytest.mark.parametrize(
    ("permission", "titles", "told", "keys"),
    [
        ("view_run", [], ["default/secret: 9 of 10 runs of the last hour failed (90 %)."], {"charts", "recent_runs"}),
        ("view_dropin", ["Agents", "Workers"], ["No worker has given", "default/secret: No module"], set()),
        ("view_upstream", ["Upstreams"], ["hidden is down: No.", "No enabled upstream"], set()),
        ("view_limit", ["Limits"], [], set()),
    ],
)
def test_staff_sees_the_panels_that_they_may(
    django_user_model: Any, permission: str, titles: list[str], told: list[str], keys: set[str]
) -> None:
    everything()
    page = staff(django_user_model, permission).get("/admin/")
    assert [one.title for one in page.context["tiles"]] == titles
    found = [one.title for one in page.context["matters"]]
    assert len(found) == len(told)
    assert [one for one, start in zip(found, told, strict=True) if not one.startswith(start)] == []
    assert {key for key in ("charts", "recent_runs", "failures") if key in page.context} == keys
    assert ("default/secret" in page.content.decode()) == (permission in ("view_run", "view_dropin"))
    assert "The words of an error." not in page.content.decode()


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
