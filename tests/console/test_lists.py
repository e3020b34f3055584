"""What holds for every list of the sidebar: it is called the same everywhere, and more rows cost no more queries."""

import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from auditlog.models import LogEntry
from django.contrib.auth.models import Group, User
from django.core.cache import cache
from django.db.models import Model
from django.test import Client, RequestFactory
from django.urls import reverse
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from apps.access.limit_models import Limit
from apps.access.models import ApiKey, Denial, Grant, Override, Team, ToolRule
from apps.access.policy import Effect
from apps.audits.models import AlertChannel, AlertDelivery, AuditRun, Finding
from apps.catalog.models import DeclaredAgent, DropIn, ModuleRule, Namespace
from apps.console.navigation import navigation
from apps.core import live_config
from apps.core.clock import now
from apps.execution.models import Approval, Run
from apps.observability.models import ErrorEvent
from apps.tools.models import McpServer, Tool
from apps.upstreams.models import ModelPrice, ModelRoute, RouteTarget, Upstream
from tests.factories import (
    ApiKeyFactory,
    DeclaredAgentFactory,
    DropInFactory,
    GrantFactory,
    RunFactory,
    UpstreamFactory,
)

pytestmark = pytest.mark.django_db


def error(stage: str, number: int) -> None:
    facts = {"key_id": ApiKeyFactory.create().pk, "target": f"labs/a{number}", "rule": f"grant-{number}"}
    ErrorEvent.objects.create(
        fingerprint=f"{stage}{number}", stage=stage, code="denied", subject=f"key {number}", message="No.", facts=facts,
        first_at=now(), last_at=now(),
    )  # fmt: skip


def route(number: int) -> None:
    made = ModelRoute.objects.create(pattern=f"gpt-{number}*")
    RouteTarget.objects.create(route=made, upstream=UpstreamFactory.create(serves=["demo"]))


def finding(number: int) -> None:
    times = {"first_seen": now(), "since": now(), "last_seen": now()}
    Finding.objects.create(rule="keys-without-expiry", subject=f"key {number}", severity="high", **times)


def delivery(number: int) -> None:
    channel = AlertChannel.objects.create(name=f"Log {number}", kind="log")
    times = {"created_at": now(), "next_attempt_at": now()}
    AlertDelivery.objects.create(channel=channel, key=f"audit {number}", severity="high", **times)


def scheduled(number: int) -> None:
    every, _ = IntervalSchedule.objects.get_or_create(every=number + 1, period="minutes")
    PeriodicTask.objects.create(name=f"Task {number}", task="gateway.purge", interval=every)


def approval(number: int) -> None:
    times = {"created_at": now(), "expires_at": now() + timedelta(hours=1)}
    Approval.objects.create(id=f"appr_{number}", agent_id="a/b", key_id=1, calls=[{"name": "book"}], **times)


# One more row, with rows of its own in whatever it refers to.
MAKE: dict[type[Model], Callable[[int], Any]] = {
    Run: lambda number: RunFactory.create(key_id=ApiKeyFactory.create().pk),
    ErrorEvent: lambda number: error("execute", number),
    Denial: lambda number: error("authorise", number),
    Approval: approval,
    DropIn: lambda number: DropInFactory.create(),
    DeclaredAgent: lambda number: DeclaredAgentFactory.create(upstream=UpstreamFactory.create(), tools=["none_*"]),
    Namespace: lambda number: Namespace.objects.create(name=f"n{number}", upstream=UpstreamFactory.create()),
    Tool: lambda number: Tool.objects.create(
        name=f"tool{number}", kind="mcp", server=McpServer.objects.create(slug=f"m{number}", url="http://127.0.0.1:9/")
    ),
    McpServer: lambda number: McpServer.objects.create(slug=f"s{number}", url="http://127.0.0.1:9/mcp"),
    Upstream: lambda number: UpstreamFactory.create(serves=["demo", "other"]),
    ModelRoute: route,
    ModelPrice: lambda number: ModelPrice.objects.create(
        model=f"m{number}", upstream=UpstreamFactory.create(), prompt_usd=1, completion_usd=1
    ),
    ApiKey: lambda number: ApiKeyFactory.create(team=Team.objects.create(name=f"Team {number}")),
    Team: lambda number: ApiKeyFactory.create(team=Team.objects.create(name=f"Team {number}")),
    Grant: lambda number: GrantFactory.create(key=ApiKeyFactory.create(agents=[]), agents=f"labs/{number}"),
    ToolRule: lambda number: ToolRule.objects.create(
        key=ApiKeyFactory.create(agents=[]), effect=Effect.DENY, pattern=f"delete_{number}"
    ),
    Override: lambda number: Override.objects.create(
        key=ApiKeyFactory.create(), effect=Effect.DENY, pattern="*", reason="r", expires_at=now() + timedelta(hours=1)
    ),
    Limit: lambda number: Limit.objects.create(key=ApiKeyFactory.create(), requests_per_minute=60),
    ModuleRule: lambda number: ModuleRule.objects.create(pattern=f"labs/{number}*"),
    LogEntry: lambda number: Namespace.objects.create(name=f"l{number}"),
    User: lambda number: User.objects.create_user(f"user {number}"),
    Group: lambda number: Group.objects.create(name=f"Group {number}"),
    Finding: finding,
    AuditRun: lambda number: AuditRun.objects.create(by="schedule", started_at=now()),
    PeriodicTask: scheduled,
    AlertChannel: delivery,
    AlertDelivery: delivery,
}  # fmt: skip
NAMES = {"Recording": "one row, no list", "Explain": "no list", "Live": "no list", "Dashboard": "no list"}


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    live_config.forget()
    cache.clear()
    yield
    live_config.forget()


def address(model: type[Model]) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")


@pytest.fixture
def titles(admin_user: User) -> dict[str, str]:
    """What the sidebar calls each list, by its address."""
    request = RequestFactory().get("/admin/")
    request.user = admin_user
    items = [item for group in navigation(request) for item in group["items"]]
    return {item["link"]: item["title"] for item in items if item["title"] not in {*NAMES, "API docs"}}


def test_every_list_of_the_sidebar_is_tested_here(titles: dict[str, str]) -> None:
    assert {address(model) for model in MAKE} == set(titles)


@pytest.mark.parametrize("model", MAKE, ids=lambda model: model.__name__)
def test_list_is_called_as_the_sidebar_calls_it(
    model: type[Model], admin_client: Client, titles: dict[str, str]
) -> None:
    page = admin_client.get(address(model)).content.decode()
    (heading,) = re.findall(r"<h1[^>]*>(.*?)</h1>", page, re.DOTALL)
    (tab,) = re.findall(r"<title>(.*?)</title>", page, re.DOTALL)
    title = titles[address(model)]
    assert (" ".join(re.sub(r"<[^>]+>", " ", heading).split()), tab.strip()) == (title, f"{title} | Agent Gateway")


@pytest.mark.parametrize("model", [one for one in MAKE if one is not Run], ids=lambda model: model.__name__)
def test_foot_of_a_list_counts_what_it_lists(model: type[Model], admin_client: Client) -> None:
    """One module rule, and of several as many module rules. Runs may be millions, and are not counted."""
    for number in range(2):
        MAKE[model](number)
        page = admin_client.get(address(model))
        count, noun = page.context["cl"].result_count, model._meta.verbose_name
        assert f"{count} {noun if count == 1 else f'{noun}s'}" in " ".join(page.content.decode().split())


@pytest.mark.parametrize("model", MAKE, ids=lambda model: model.__name__)
def test_three_rows_cost_as_many_queries_as_one(
    model: type[Model], admin_client: Client, count_queries: Callable[[Callable[[], Any]], int]
) -> None:
    def shown() -> int:
        return len(admin_client.get(address(model)).context["cl"].result_list)

    def cost() -> int:
        """The least of three: what is looked up only now and then is not of the list."""
        return min(count_queries(shown) for _ in range(3))

    MAKE[model](0)
    before, once = shown(), cost()
    for number in (1, 2):
        MAKE[model](number)
    assert shown() > before
    assert cost() == once
