"""Tools in a server process: the admin's test run and the operators' API."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from tests.harness import GatewayServer, Template, eventually
from tests.harness.gateway import PASSWORD

DAYS = "apps.tools.examples.days_between"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, template: Template) -> Iterator[GatewayServer]:
    folder = tmp_path_factory.mktemp("tools")
    (folder / "agents").mkdir()
    with GatewayServer(folder / "data", agents=folder / "agents", template=template) as server:
        server.operator.make("tools.Tool", id=1, name="days", kind="local", function=DAYS)
        url = f"{server.url}/health/{{part}}"
        server.operator.make("tools.Tool", id=2, name="itself", url=url, allow_private_hosts=True)
        server.operator.make("tools.Tool", id=3, name="refused", url=url)
        yield server


@pytest.fixture(scope="module")
def admin(server: GatewayServer) -> Iterator[requests.Session]:
    with requests.Session() as session:
        login = f"{server.url}/admin/login/"
        session.get(login, timeout=30)
        form = {"username": "admin", "password": PASSWORD, "csrfmiddlewaretoken": session.cookies["csrftoken"]}
        session.post(login, form, timeout=30)
        yield session


def tried(server: GatewayServer, admin: requests.Session, tool: int, **arguments: str) -> str:
    form = {**arguments, "csrfmiddlewaretoken": admin.cookies["csrftoken"]}
    answer = admin.post(f"{server.url}/admin/tools/tool/{tool}/test_run/", form, timeout=30)
    assert answer.status_code == 200
    return answer.text


def test_functions_are_read_again_and_called(server: GatewayServer, admin: requests.Session) -> None:
    key: Any = server.operator.issue_key("Tools", may_administer=True, may_chat=False)["credential"]
    eventually(lambda: server.request("GET", "/tools", headers={"x-api-key": key}).status, 200)

    read = server.request("POST", "/tools/refresh", headers={"x-api-key": key}).json()
    page = tried(server, admin, 1, argument_0="2026-01-01", argument_1="2026-03-01")

    assert [(one["name"], one["problem"]) for one in read["functions"]] == [("days", "")]
    assert ("Answered after" in page, ">59<" in page) == (True, True)


def test_gateway_can_ask_itself_where_it_may(server: GatewayServer, admin: requests.Session) -> None:
    """The call runs on the event loop that answers the tool's request, too."""
    asked = tried(server, admin, 2, json='{"part": "x"}')
    refused = tried(server, admin, 3, json='{"part": "x"}')

    assert "127.0.0.1 answered 404 Not Found" in asked
    assert "127.0.0.1 is no public host, and this tool may ask no other." in refused


def test_many_test_runs_at_once_all_end(server: GatewayServer, admin: requests.Session) -> None:
    pages: list[str] = []
    given = {"argument_0": "2026-01-01", "argument_1": "2026-01-02"}
    threads = [
        threading.Thread(target=lambda: pages.append(tried(server, admin, 1, **given)), daemon=True) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)

    assert ["Answered after" in page for page in pages] == [True] * 8
