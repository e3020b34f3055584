"""GET /admin/agents/errors: the same story as the admin and `discover_agents --json`, for scripts."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from apps.core import live_config
from apps.observability.models import ErrorEvent
from tests.harness import GatewayServer, eventually

URL = "/admin/agents/errors"
PLAIN = 'from agents import Agent\n\nagent = Agent(name="Plain", instructions="Answer.")\n'
AGENTS = {"Plain": PLAIN, "Broken": "import nothing_like_this\n", "Typo": "def (:\n"}


@pytest.fixture
def server(start_gateway: Callable[..., GatewayServer]) -> GatewayServer:
    return start_gateway(agents=AGENTS)


def ask(server: GatewayServer, credential: str | None, query: str = "") -> Any:
    return server.request("GET", URL + query, headers={"x-api-key": credential} if credential else {})


def test_operators_see_every_error_with_its_place_and_remedy(server: GatewayServer) -> None:
    key = server.operator.issue_key("Operator", may_administer=True)["credential"]
    eventually(lambda: ask(server, key).status, 200)

    found = ask(server, key, "?kind=diagnostic").json()["data"]

    told = json.loads(server.manage("discover_agents", "--json").stdout)
    expected = [(row["id"], problem["code"], problem["file"]) for row in told for problem in row["problems"]]
    assert sorted((one["agent"], one["code"], one["file"]) for one in found) == sorted(expected)
    assert [(one["agent"], one["state"], one["code"], one["line"]) for one in found] == [
        ("default/broken", "broken", "missing_dependency", 1),
        ("default/typo", "broken", "syntax_error", 1),
    ]
    assert all(one["reason"] and one["remedy"] for one in found)
    assert ask(server, key, "?severity=warning").json() == {"data": [], "total": 0}
    # Kept in the ring as well, which says how often; told once.
    eventually(lambda: [one["count"] for one in ask(server, key, "?stage=discover").json()["data"]], [1, 1])


def test_chat_key_is_refused(server: GatewayServer) -> None:
    key = server.operator.issue_key("Client")["credential"]
    eventually(lambda: ask(server, key).status, 403)

    answer = ask(server, key)

    assert (answer.status, answer.error["message"]) == (403, "The API key lacks the scope 'admin'.")


def test_nobody_is_refused(server: GatewayServer) -> None:
    assert (ask(server, None).status, ask(server, "agw_wrong").status) == (401, 401)


def test_severity_that_is_none_is_refused(server: GatewayServer) -> None:
    key = server.operator.issue_key("Operator", may_administer=True)["credential"]
    eventually(lambda: ask(server, key).status, 200)

    answer = ask(server, key, "?severity=loud")

    assert (answer.status, answer.error["param"]) == (400, "severity")


AT = datetime(2026, 11, 25, 12, tzinfo=UTC)


def failed(agent: str, minutes: int, **other: Any) -> ErrorEvent:
    values = {"stage": "execute", "code": "agent_error", "message": "It failed.", "facts": {"agent": agent}, **other}
    at = AT + timedelta(minutes=minutes)
    fingerprint = f"{agent} {minutes}"
    return ErrorEvent.objects.create(subject=agent, fingerprint=fingerprint, first_at=AT, last_at=at, **values)


@pytest.mark.django_db
@pytest.mark.usefixtures("_fresh")
class TestFailures:
    @pytest.fixture
    def client(self, admin_client: Client) -> Client:
        failed("default/a", 1, request_id="req-1", remedy="Mend it.", traceback="Traceback ...", count=3)
        failed("default/b", 2, code="upstream_timeout", message="Too slow.")
        failed("key 7", 3, stage="resolve", code="model_not_found", facts={})
        return admin_client

    def subjects(self, client: Client, **query: Any) -> list[str]:
        return [one["subject"] for one in client.get(URL, query).json()["data"]]

    def test_failure_has_the_shape_of_a_diagnostic(self, client: Client) -> None:
        (found,) = client.get(URL, {"agent": "default/a"}).json()["data"]

        assert found == {
            "kind": "failure", "stage": "execute", "agent": "default/a", "subject": "default/a", "state": "",
            "severity": None, "code": "agent_error", "reason": "It failed.", "remedy": "Mend it.", "file": "",
            "line": None, "count": 3, "first_at": "2026-11-25T12:00:00Z", "last_at": "2026-11-25T12:01:00Z",
            "request_id": "req-1", "facts": {"agent": "default/a"}, "traceback": "Traceback ...",
        }  # fmt: skip

    @pytest.mark.parametrize(
        ("query", "expected"),
        [
            ({}, ["key 7", "default/b", "default/a"]),
            ({"stage": "execute"}, ["default/b", "default/a"]),
            ({"code": "model_not_found"}, ["key 7"]),
            ({"since": "2026-11-25T12:02:00Z"}, ["key 7", "default/b"]),
            ({"q": "SLOW"}, ["default/b"]),
            ({"q": "req-1"}, ["default/a"]),
            ({"kind": "diagnostic"}, []),
            ({"severity": "error"}, []),
            ({"limit": 1, "offset": 1}, ["default/b"]),
        ],
    )
    def test_filter(self, client: Client, query: dict[str, Any], expected: list[str]) -> None:
        assert self.subjects(client, **query) == expected

    @pytest.mark.parametrize("query", [{"stage": "later"}, {"since": "yesterday"}, {"limit": 0}, {"q": "a\0b"}])
    def test_filter_that_makes_no_sense_is_refused(self, client: Client, query: dict[str, Any]) -> None:
        answer = client.get(URL, query)

        assert (answer.status_code, answer.json()["error"]["param"]) == (400, next(iter(query)))


@pytest.fixture
def _fresh() -> Iterator[None]:
    live_config.forget()
    yield
    live_config.forget()


@pytest.mark.django_db
@pytest.mark.usefixtures("_fresh")
@pytest.mark.parametrize(
    ("is_staff", "may_view", "status"), [(True, True, 200), (True, False, 403), (False, True, 401)]
)
def test_staff_who_may_see_diagnostics_need_no_key(is_staff: bool, may_view: bool, status: int) -> None:
    user = User.objects.create_user("ann", is_staff=is_staff)
    if may_view:
        user.user_permissions.add(Permission.objects.get(codename="view_diagnostic"))
    client = Client()
    client.force_login(user)

    assert client.get(URL).status_code == status
