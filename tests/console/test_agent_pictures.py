"""What agents' pages show beside their fields: the graph, and how their runs went."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from apps.core import clock
from apps.execution.models import Outcome, RunBucket
from apps.execution.pages.agent_part import agent_part
from tests.factories import DeclaredAgentFactory, DropInFactory, RunFactory

pytestmark = pytest.mark.django_db

ODD = '<script>alert("x")</script>\u202e ' + "w" * 150
GRAPH = [
    {"name": ODD, "model": ODD, "tools": [ODD], "mcp_servers": [ODD],
     "edges": [{"kind": "handoff", "name": ODD, "target": 1}, {"kind": "tool", "name": ODD, "target": 1}]},
    {"name": "Second", "model": "", "tools": [], "mcp_servers": [], "edges": []},
]  # fmt: skip


def bucket(agent_id: str, *, hours: float, **counts: int) -> None:
    RunBucket.objects.create(agent_id=agent_id, began_at=clock.now() - timedelta(hours=hours), **counts)


def test_page_draws_the_graph_and_names_are_texts(admin_client: Client) -> None:
    row = DropInFactory(graph=GRAPH)
    page = admin_client.get(f"/admin/catalog/dropin/{row.pk}/change/").content.decode()
    assert page.count('class="graph-box') == 2
    assert page.count("marker-end") == 2
    assert "The graph of 2 agents; it is told in words below." in page
    assert "<script>alert" not in page


def test_page_of_an_agent_without_a_graph_has_no_picture(admin_client: Client) -> None:
    row = DropInFactory()
    assert "graph-box" not in admin_client.get(f"/admin/catalog/dropin/{row.pk}/change/").content.decode()


def test_shares_and_times_come_from_the_sums_of_the_agent_alone() -> None:
    bucket("default/a", hours=2, runs=8, failed=2, took_250=7, took_5000=1)
    bucket("default/a", hours=100, runs=12, took_longer=12)
    bucket("default/a", hours=300, runs=50, failed=50, took_100=50)
    bucket("default/b", hours=2, runs=90, failed=90, took_100=90)
    day, week = agent_part("default/a").spans
    assert (day.runs, day.failed, day.is_alarming) == (8, "25.0 % failed", True)
    assert (day.p50, day.p95) == ("186 ms", "4.0 s")
    assert (week.runs, week.failed, week.p95) == (20, "10.0 % failed", "60.0 s or more")
    assert [(bar.good, bar.failed) for bar in day.bars if bar.good] == [(75.0, 25.0)]
    assert (len(day.bars), len(week.bars)) == (24, 28)
    assert [bar.good for bar in week.bars if bar.good] == [100.0, 50.0]


def test_agent_that_never_ran_says_so() -> None:
    day, _ = agent_part("default/a").spans
    assert (day.runs, day.failed, day.p50, day.said) == (0, "-", "-", "")


def test_last_runs_are_the_agents_own(admin_client: Client) -> None:
    row = DropInFactory(agent_id="default/a")
    for number in range(12):
        RunFactory(id=f"mine{number}", agent_id="default/a", started_at=clock.now() - timedelta(minutes=number))
    RunFactory(id="other", agent_id="default/b")
    page = admin_client.get(f"/admin/catalog/dropin/{row.pk}/change/").content.decode()
    assert [number for number in range(12) if f"/run/mine{number}/" in page] == list(range(10))
    assert "/run/other/" not in page
    assert "/admin/execution/run/?agent=default%2Fa" in page


def test_declared_agents_page_has_its_runs(admin_client: Client) -> None:
    row = DeclaredAgentFactory(name="helpdesk")
    RunFactory(id="mine", agent_id="default/helpdesk", outcome=Outcome.FAILED, error_code="max_turns")
    page = admin_client.get(f"/admin/catalog/declaredagent/{row.pk}/change/").content.decode()
    assert "/admin/execution/run/mine/change/" in page
    assert "max_turns" in page


@pytest.mark.parametrize("runs", [1, 3])
def test_pages_cost_the_same_for_any_number_of_runs(
    admin_client: Client, count_queries: Callable[..., int], runs: int
) -> None:
    row = DropInFactory(agent_id="default/a", graph=GRAPH)
    for number in range(runs):
        RunFactory(agent_id="default/a")
        bucket("default/a", hours=number, runs=1)
    page = f"/admin/catalog/dropin/{row.pk}/change/"
    admin_client.get(page)  # content types are asked for once
    assert count_queries(lambda: admin_client.get(page)) == 30


def test_runs_are_for_who_may_see_them() -> None:
    row = DropInFactory(agent_id="default/a", graph=GRAPH)
    RunFactory(id="mine", agent_id="default/a")
    user = User.objects.create_user("viewer", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_dropin"))
    client = Client()
    client.force_login(user)
    page = client.get(f"/admin/catalog/dropin/{row.pk}/change/").content.decode()
    assert "graph-box" in page
    assert "/run/mine/" not in page
