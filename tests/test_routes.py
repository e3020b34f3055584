"""Every route of the URL conf, and who may reach it: a new one has to be entered here.

Staff without permissions stands for whoever is logged in to the console and was granted nothing. What permission the
operators' API asks for is read off its routes: who has that one alone, and a superuser, get what an admin key gets.
"""

import json
import re
from collections.abc import Iterator
from datetime import timedelta
from itertools import count
from typing import Any

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import Group, Permission, User
from django.db import transaction
from django.test import Client
from django.urls import get_resolver
from django_celery_beat.models import CrontabSchedule, IntervalSchedule, PeriodicTask

from apps.access.limit_models import Limit
from apps.access.models import Grant, Override, Team, ToolRule
from apps.access.policy import Effect
from apps.admin_api.authentication import OperatorAuth
from apps.audits.models import AlertChannel, AlertDelivery, AuditRun, Finding
from apps.catalog.models import ApprovedVersion, ModuleRule, Namespace
from apps.core import live_config
from apps.core.clock import now
from apps.tools.models import McpServer, Tool
from apps.upstreams.models import ModelPrice, ModelRoute
from gateway_site.urls import api
from tests.factories import ApiKeyFactory, DeclaredAgentFactory, DropInFactory, RunFactory, UpstreamFactory

pytestmark = pytest.mark.django_db

ADMIN, CHAT = "agw_admin_of_the_routes_01", "agw_chat_of_the_routes_012"
CHAT_BODY = {"model": "default/nothing", "messages": [{"role": "user", "content": "Hi"}]}
OVERRIDE = {"effect": "deny", "pattern": "labs/*", "ttl": 60, "reason": "maintenance"}

NEW_KEY = {"name": "Further", "scopes": ["admin"], "agents": []}
DECLARED = "admin/agents/declared/<namespace>/<name>"
OPERATORS = (401, 403, 200, 403)  # what is read, and what can be done without a conflict

# route: method, body, and the status for nobody, a chat key, an admin key (without chat), staff without permissions
API: dict[str, tuple[str, Any, tuple[int, int, int, int]]] = {
    "": ("GET", None, (302, 302, 302, 302)),  # to the console, which asks who it is
    "openapi.json": ("GET", None, (200, 200, 200, 200)),
    "docs": ("GET", None, (200, 200, 200, 200)),
    "health": ("GET", None, (200, 200, 200, 200)),
    "ready": ("GET", None, (503, 503, 503, 503)),  # no worker runs in this process
    "v1/chat/completions": ("POST", CHAT_BODY, (401, 404, 404, 401)),  # a model that is none, before all else
    "v1/completions": ("POST", {"model": "default/nothing", "prompt": "Hi"}, (401, 404, 404, 401)),
    "v1/embeddings": ("POST", {"model": "default/nothing", "input": "Hi"}, (401, 404, 404, 401)),
    "v1/models": ("GET", None, (401, 200, 403, 401)),
    "v1/models/<path:model>": ("GET", None, (401, 404, 404, 401)),
    "v1/<path:rest>": ("GET", None, (401, 404, 404, 401)),
    "admin/agents/errors": ("GET", None, (401, 403, 200, 403)),
    "admin/agents/declared": ("GET", None, (401, 403, 200, 403)),
    "admin/agents/declared/<namespace>/<name>": ("GET", None, (401, 403, 200, 403)),
    "admin/agents/declared/<namespace>/<name>/versions": ("GET", None, (401, 403, 200, 403)),
    "admin/agents/declared/<namespace>/<name>/versions/<number>/return": ("POST", None, (401, 403, 200, 403)),
    "admin/audits": ("GET", None, (401, 403, 200, 403)),
    "admin/findings": ("GET", None, (401, 403, 200, 403)),
    "agents": ("GET", None, OPERATORS),
    "agents/refresh": ("POST", None, OPERATORS),
    "admin/agents": ("GET", None, OPERATORS),
    "admin/runs": ("GET", None, OPERATORS),
    "admin/runs/<run_id>": ("GET", None, OPERATORS),
    "admin/keys": ("GET", None, OPERATORS),
    "admin/keys/<key_id>": ("GET", None, OPERATORS),
    "admin/keys/<key_id>/rotate": ("POST", None, (401, 403, 403, 403)),  # of the chat key: more than this one may do
    "admin/keys/<key_id>/revoke": ("POST", None, OPERATORS),
    "metrics": ("GET", None, (401, 403, 200, 403)),
    "metrics/prometheus": ("GET", None, (401, 403, 200, 403)),
    "admin/metrics": ("GET", None, (401, 403, 200, 403)),
    "security/preview": ("POST", {"key": 1}, (401, 403, 200, 403)),
    "security/override": ("POST", OVERRIDE, (401, 403, 201, 403)),
    "security/overrides": ("GET", None, (401, 403, 200, 403)),
    "security/overrides/<override_id>": ("DELETE", None, (401, 403, 200, 403)),
    "security/refresh": ("POST", None, (401, 403, 200, 403)),
    "security/decisions": ("GET", None, (401, 403, 200, 403)),
    "security/changes": ("GET", None, (401, 403, 200, 403)),
    "upstreams": ("GET", None, (401, 403, 200, 403)),
    "upstreams/refresh": ("POST", {"name": "none"}, (401, 403, 404, 403)),
    "tools": ("GET", None, (401, 403, 200, 403)),
    "tools/refresh": ("POST", None, (401, 403, 200, 403)),
}

# Further methods of the same routes.
FURTHER: dict[str, tuple[Any, tuple[int, int, int, int]]] = {
    "POST admin/keys": (NEW_KEY, (401, 403, 201, 403)),
    "POST admin/agents/declared": ({"name": "drafted"}, (401, 403, 201, 403)),
    f"PUT {DECLARED}": ({}, OPERATORS),
    f"PATCH {DECLARED}": ({"title": "One"}, OPERATORS),
    f"DELETE {DECLARED}": (None, OPERATORS),
    **{f"{method} v1/<path:rest>": (None, (401, 404, 404, 401)) for method in ("POST", "PUT", "PATCH", "DELETE")},
}
CASES = {f"{method} {route}": (body, expected) for route, (method, body, expected) in API.items()} | FURTHER
# Where a session with the permission may do what an admin key may not: a key gives no more than it has.
MORE_THAN_A_KEY = {"POST admin/keys/<key_id>/rotate": 200}

# Pages of the console that answer otherwise than "log in" to strangers, and than "forbidden" to staff.
OPEN_TO_STRANGERS = {
    "admin/login/": 200,
    "admin/logout/": 302,  # to the dashboard, and from there to the login
    "admin/dashboard/": 403,  # a part of a page, which must not become the login page
    "admin/catalog/dropin/<int:pk>/serving/": 403,  # the same
    "admin/upstreams/upstream/<int:pk>/health/": 403,  # the same
    "admin/audits/auditrun/<int:pk>/progress/": 403,  # the same
}
OPEN_TO_STAFF = {
    "admin/": 200,
    "admin/login/": 302,  # to the dashboard
    "admin/logout/": 405,  # takes POST only
    "admin/password_change/": 200,
    "admin/password_change/done/": 200,
    "admin/jsi18n/": 200,
    "admin/search/": 200,  # finds what the user may see
    "admin/r/<path:content_type_id>/<path:object_id>/": 404,
    "admin/^(?P<app_label>": 404,  # an app's page lists what the user may see, here nothing
    "admin/(?P<url>.*)$": 404,
}
LED_AWAY = re.compile(
    r"admin/\w+/\w+/<path:object_id>/|admin/(execution/approval|auditlog/logentry|access/denial|observability/errorevent)/<path:object_id>/\w+/"
)
_addresses = (f"10.8.{n // 250}.{n % 250 + 1}" for n in count())


@pytest.fixture(autouse=True)
def _fresh_configuration(settings: LazySettings) -> Iterator[None]:
    settings.GATEWAY_AGENT_DISCOVERY_PATH = []  # a refresh would leave its agents to the tests after these
    live_config.forget()
    yield
    live_config.forget()


@pytest.fixture(autouse=True)
def _rows() -> None:
    """One of everything, with the id 1 where a path has one."""
    ApiKeyFactory.create(pk=1, credential=CHAT)
    ApiKeyFactory.create(pk=2, credential=ADMIN, may_chat=False, may_administer=True)
    UpstreamFactory.create(pk=1)
    McpServer(pk=1, slug="box", url="http://127.0.0.1:9/mcp").save()
    DropInFactory.create(pk=1)
    RunFactory.create(id="1")
    Group.objects.create(pk=1, name="Nobody yet")
    Grant.objects.get_or_create(pk=1, defaults={"effect": Effect.ALLOW, "agents": "labs/*"})  # the key's own, perhaps
    Team.objects.create(pk=1, name="Lab")
    ToolRule.objects.create(pk=1, effect=Effect.DENY, pattern="delete_*")
    Override.objects.create(pk=1, effect=Effect.DENY, pattern="*", reason="r", expires_at=now() + timedelta(hours=1))
    Limit.objects.create(pk=1, requests_per_minute=60)
    ModelPrice.objects.create(pk=1, model="*", prompt_usd=1, completion_usd=1)
    ModelRoute.objects.create(pk=1, pattern="gpt-*")
    DeclaredAgentFactory.create(pk=1, namespace="1", name="1")
    Namespace.objects.create(pk=1, name="labs")
    ModuleRule.objects.create(pk=1, pattern="labs/*")
    ApprovedVersion.objects.create(pk=1, folder_id="labs/planner", digest="0" * 64)
    Tool.objects.create(pk=1, name="weather", url="https://api.example.com/{city}")
    run = AuditRun.objects.create(pk=1, by="schedule", started_at=now())
    seen = {"first_seen": now(), "since": now(), "last_seen": now()}
    Finding.objects.create(pk=1, rule="a-rule", subject="key old", severity="high", **seen)
    channel = AlertChannel.objects.create(pk=1, name="Log", kind="log")
    times = {"created_at": now(), "next_attempt_at": now()}
    AlertDelivery.objects.create(pk=1, channel=channel, key=f"audit {run.pk}", severity="high", **times)
    every, _ = IntervalSchedule.objects.get_or_create(pk=1, defaults={"every": 1, "period": "minutes"})
    CrontabSchedule.objects.get_or_create(pk=1)
    PeriodicTask.objects.get_or_create(pk=1, defaults={"name": "Alerts", "task": "gateway.alerts", "interval": every})
    User.objects.create_user("somebody", pk=1)
    live_config.refresh()  # the road of /v1 reads memory only


def routes() -> list[str]:
    def walk(patterns: Any, before: str = "") -> Iterator[str]:
        for one in patterns:
            route = before + str(one.pattern)
            if hasattr(one, "url_patterns"):
                yield from walk(one.url_patterns, route)
            else:
                yield route

    return list(dict.fromkeys(walk(get_resolver().url_patterns)))


def path_of(route: str) -> str:
    """With 1 for every id, and nonsense for the rest of a path."""
    if route.startswith("admin/^(?P<app_label>"):
        return "/admin/access/"
    if route.endswith("(?P<url>.*)$"):
        return "/admin/no/such/page/"
    return "/" + re.sub(r"<[^>]+>", "1", route)


def is_page(route: str) -> bool:
    """Of the console; its paths end with a slash."""
    return route.startswith("admin/") and route.endswith(("/", "$", ")"))


def pages() -> dict[str, str]:
    """The console's routes, shortened where apps are listed, with a path for each."""
    found = [route for route in routes() if is_page(route)]
    return {re.sub(r"(app_label>).*", r"\1", route): path_of(route) for route in found}


def client(**headers: str) -> Client:
    """From an address of its own: many failures from one are refused otherwise."""
    return Client(REMOTE_ADDR=next(_addresses), headers=headers)


def staff() -> Client:
    logged_in = client()
    logged_in.force_login(User.objects.create_user(f"staff {next(_addresses)}", is_staff=True))
    return logged_in


def operations() -> dict[str, str | None]:
    """Each method of each route of the APIs, with the permission that it asks of staff."""
    found = {}
    for prefix, router in api._routers:
        for path, view in router.path_operations.items():
            route = re.sub(r"{([^}]+)}", r"<\1>", f"{prefix}{path}".strip("/"))
            for operation in view.operations:
                guards = [one for one in operation.auth_callbacks if isinstance(one, OperatorAuth)]
                found |= {
                    f"{method} {route}": guards[0]._permission if guards else None for method in operation.methods
                }
    return found


def permitted(permission: str | None) -> Client:
    """A member of staff who has this permission and no other; none that nothing asks for."""
    logged_in = client()
    user = User.objects.create_user(f"staff {next(_addresses)}", is_staff=True)
    if permission:
        app, _, codename = permission.partition(".")
        user.user_permissions.add(Permission.objects.get(content_type__app_label=app, codename=codename))
    logged_in.force_login(user)
    return logged_in


def superuser() -> Client:
    logged_in = client()
    logged_in.force_login(User.objects.create_superuser(f"root {next(_addresses)}"))
    return logged_in


def status(caller: Client, case: str) -> int:
    """What the caller is answered; nothing of what it does stays."""
    method, _, route = case.partition(" ")
    body = CASES[case][0]
    content = b"" if body is None else json.dumps(body).encode()
    live_config.refresh()
    with transaction.atomic():
        answer = caller.generic(method, path_of(route), content, content_type="application/json")
        transaction.set_rollback(True)
    return answer.status_code


def test_every_operation_of_the_apis_is_listed_here() -> None:
    plain = {f"GET {route}" for route in ("", "openapi.json", "docs")}
    assert {*operations(), *plain} == set(CASES)
    apis = {route for route in routes() if not is_page(route)}
    assert apis == set(API)


@pytest.mark.parametrize("case", CASES)
def test_operation_lets_in_whom_it_should(case: str) -> None:
    callers = [client(), client(authorization=f"Bearer {CHAT}"), client(authorization=f"Bearer {ADMIN}"), staff()]

    assert tuple(status(caller, case) for caller in callers) == CASES[case][1]


@pytest.mark.parametrize("case", [case for case, permission in operations().items() if permission])
def test_operation_lets_in_staff_who_have_its_permission(case: str) -> None:
    permission = operations()[case]
    nobody, chat_key, admin_key, other_staff = CASES[case][1]
    assert (nobody, chat_key, other_staff) == (401, 403, 403)

    callers = [permitted(permission), superuser()]

    expected = MORE_THAN_A_KEY.get(case, admin_key)
    assert [status(caller, case) for caller in callers] == [expected] * 2


@pytest.mark.parametrize("case", [case for case, permission in operations().items() if not permission])
def test_operation_of_clients_takes_no_session(case: str) -> None:
    """Only keys chat, and what is open to all is open to these."""
    expected = CASES[case][1][0]
    assert [status(caller, case) for caller in (permitted(None), superuser())] == [expected] * 2


def outcomes(caller: Client) -> dict[str, int | str]:
    """Of every page of the console: `log in`, or the status."""
    found: dict[str, int | str] = {}
    for route, path in pages().items():
        answer = caller.get(path)
        if answer.status_code == 405 and route != "admin/logout/":
            answer = caller.post(path)
        asked_to_log_in = answer.status_code == 302 and answer.headers["Location"].startswith("/admin/login/")
        found[route] = "log in" if asked_to_log_in else answer.status_code
    return found


@pytest.mark.parametrize("headers", [{}, {"x-api-key": CHAT}, {"authorization": f"Bearer {ADMIN}"}])
def test_console_shows_nothing_to_strangers_and_takes_no_key(headers: dict[str, str]) -> None:
    found = outcomes(client(**headers))

    assert {route: status for route, status in found.items() if status != "log in"} == OPEN_TO_STRANGERS


def test_console_shows_nothing_of_the_rows_to_staff_without_permissions() -> None:
    found = outcomes(staff())

    # What leads elsewhere: from the short path of a row to its page, and from a page of a row that is none.
    led_away = {route for route, status in found.items() if status == 302} - {"admin/login/"}
    assert [route for route in sorted(led_away) if not LED_AWAY.fullmatch(route)] == []
    others = {route: status for route, status in found.items() if status != 403 and route not in led_away}
    assert others == OPEN_TO_STAFF


def test_user_who_is_no_staff_is_a_stranger_to_the_console() -> None:
    user = client()
    user.force_login(User.objects.get(pk=1))

    found = outcomes(user)

    assert {route: status for route, status in found.items() if status != "log in"} == OPEN_TO_STRANGERS
