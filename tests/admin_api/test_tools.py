"""GET /tools and POST /tools/refresh."""

from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from apps.tools.models import Kind, McpServer, Tool, Transport
from tests.admin_api.conftest import Caller, permit

DAYS = "apps.tools.examples.days_between"
SECRET = "Bearer very-secret"


@pytest.fixture(autouse=True)
def _tools(db: None) -> None:
    asking = Tool(name="crm_find", url="https://api.example.com/{id}", needs_approval=True, cache_seconds=5)
    asking.secret_headers = {"Authorization": SECRET}
    counting = Tool(name="days", kind=Kind.LOCAL, function=DAYS)
    broken = Tool(name="broken", kind=Kind.LOCAL, function="os.system")
    for tool in (asking, counting):
        tool.full_clean()
    for tool in (asking, counting, broken):
        tool.save()
    Tool.objects.create(name="crm_off", url="https://api.example.com/", enabled=False)


def names(answer: tuple[int, Any]) -> list[str]:
    return [one["name"] for one in answer[1]["data"]]


def test_tools_are_told_without_what_is_secret(admin: Caller) -> None:
    status, told = admin.ask("GET", "/tools?name=crm_find")

    assert (status, told) == (
        200,
        {
            "data": [
                {
                    "name": "crm_find",
                    "kind": "http",
                    "description": "",
                    "source": "gateway.http",
                    "parameters": {
                        "type": "object",
                        "properties": {"id": {"type": "string"}},
                        "required": ["id"],
                        "additionalProperties": False,
                    },
                    "state": "ok",
                    "remedy": "",
                    "enabled": True,
                    "needs_approval": True,
                    "is_idempotent": False,
                    "cache_seconds": 5.0,
                    "max_calls_per_run": None,
                    "timeout": 30.0,
                    "max_concurrency": 16,
                    "max_output_bytes": 65536,
                }
            ],
            "total": 1,
        },
    )


@pytest.mark.parametrize(
    ("query", "found", "total"),
    [
        ("", ["broken", "crm_find", "crm_off", "days"], 4),
        ("?kind=local", ["broken", "days"], 2),
        ("?name=crm_*", ["crm_find", "crm_off"], 2),
        ("?name=crm_*&kind=local", [], 0),
        ("?limit=1&offset=1", ["crm_find"], 4),
    ],
)
def test_tools_are_filtered_and_paged(admin: Caller, query: str, found: list[str], total: int) -> None:
    answer = admin.ask("GET", f"/tools{query}")

    assert (names(answer), answer[1]["total"]) == (found, total)


@pytest.mark.parametrize("query", ["?kind=odd", "?limit=0", "?name=%00"])
def test_filter_that_is_none_is_refused(admin: Caller, query: str) -> None:
    assert admin.ask("GET", f"/tools{query}")[0] == 400


def test_states_are_told(admin: Caller) -> None:
    told = admin.ask("GET", "/tools")[1]["data"]

    assert {one["name"]: (one["state"], bool(one["remedy"])) for one in told} == {
        "broken": ("broken", True),
        "crm_find": ("ok", False),
        "crm_off": ("off", False),
        "days": ("ok", False),
    }


def test_refresh_reads_signatures_again(admin: Caller) -> None:
    Tool.objects.filter(name="days").update(parameters={"type": "object"})

    status, told = admin.ask("POST", "/tools/refresh")

    assert status == 200
    assert [(one["name"], one["is_changed"], one["problem"][:13]) for one in told["functions"]] == [
        ("broken", False, "The module os"),
        ("days", True, ""),
    ]
    assert Tool.objects.get(name="days").parameters["required"] == ["first", "second"]


def test_refresh_reads_servers_but_starts_no_process(admin: Caller, tmp_path: Path) -> None:
    McpServer.objects.create(slug="away", url="http://127.0.0.1:9/mcp")
    began = tmp_path / "began"
    McpServer.objects.create(slug="here", transport=Transport.STDIO, command=["touch", str(began)])

    _, told = admin.ask("POST", "/tools/refresh")

    assert [(one["server"], bool(one["problem"])) for one in told["servers"]] == [("away", True)]
    assert not began.exists()


def test_staff_need_their_permissions(staff: User) -> None:
    client = Client()
    client.force_login(staff)
    caller = Caller(client)

    before = caller.ask("GET", "/tools")[0]
    permit(staff, "tools.view_tool")
    client.force_login(User.objects.get(pk=staff.pk))

    assert (before, caller.ask("GET", "/tools")[0], caller.ask("POST", "/tools/refresh")[0]) == (403, 200, 403)
