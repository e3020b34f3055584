"""GET /admin/agents/errors: the same story as the admin and `discover_agents --json`, for scripts."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from apps.core import live_config
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

    found = ask(server, key).json()["data"]

    told = json.loads(server.manage("discover_agents", "--json").stdout)
    expected = [(row["id"], problem["code"], problem["file"]) for row in told for problem in row["problems"]]
    assert sorted((one["agent"], one["code"], one["file"]) for one in found) == sorted(expected)
    assert [(one["agent"], one["state"], one["code"], one["line"]) for one in found] == [
        ("default/broken", "broken", "missing_dependency", 1),
        ("default/typo", "broken", "syntax_error", 1),
    ]
    assert all(one["reason"] and one["remedy"] for one in found)
    assert ask(server, key, "?severity=warning").json() == {"data": []}


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
