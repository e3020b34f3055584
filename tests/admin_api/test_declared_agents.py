"""/admin/agents/declared."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.catalog import declared_checks
from apps.catalog.models import DeclaredAgent
from apps.tools.models import Kind, Tool
from tests.admin_api.conftest import Caller
from tests.factories import DeclaredAgentFactory, DropInFactory, UpstreamFactory

ROOT = "/admin/agents/declared"
DESK = f"{ROOT}/default/desk"

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _demo() -> None:
    UpstreamFactory.create(slug="demo", kind="demo", serves=["demo"])


def test_agent_is_made_with_all_that_was_given(admin: Caller) -> None:
    Tool.objects.create(name="search", kind=Kind.HTTP, url="https://example.com")
    given = {
        "namespace": "labs", "name": "desk", "title": "Desk", "description": "d", "instructions": "i {{date}}",
        "upstream": "demo", "model": "demo", "parameters": {"temperature": 0.2}, "tools": ["search"],
        "tool_choice": "search", "parallel_tool_calls": False, "response_format": {"type": "json_object"},
        "max_turns": 3, "run_timeout": 60.0, "on_disconnect": "drain", "listed": False, "greeting": "g", "icon": "🖨️",
        "tags": ["t"], "aliases": ["printers"], "stage": "live",
    }  # fmt: skip
    status, body = admin.ask("POST", ROOT, given)
    assert status == 201
    facts = {name: body["agent"].pop(name) for name in ("created_at", "changed_at")}
    assert all(facts.values())
    assert body == {
        "agent": {**given, "id": "labs/desk", "version": 1, "problems": []},
        "remarks": [
            {"is_good": True, "text": "The built-in demo answers for labs/desk: it takes any model, and tools."}
        ],
    }
    assert DeclaredAgent.objects.get().values() == given
    assert admin.ask("GET", f"{ROOT}/labs/desk") == (200, {**body["agent"], **facts})


def test_what_is_left_out_is_a_new_agents(admin: Caller) -> None:
    body = admin.ask("POST", ROOT, {"name": "desk"})[1]["agent"]
    assert (body["id"], body["stage"], body["tools"], body["parameters"]) == ("default/desk", "draft", [], {})


def test_remarks_say_what_is_to_be_mended(admin: Caller) -> None:
    body = admin.ask("POST", ROOT, {"name": "desk", "tools": ["gone"], "instructions": "{{dat}}"})[1]
    assert [one["text"].partition(":")[0] for one in body["remarks"] if not one["is_good"]] == [
        "{{dat}} in the instructions is no variable, and stays as it is",
        "The gateway has no tool 'gone'",
    ]
    assert [one["code"] for one in body["agent"]["problems"]] == ["tools_missing"]


@pytest.mark.parametrize(
    ("fields", "param", "message"),
    [
        (
            {"parameters": {"heat": 1}},
            "parameters",
            "parameters: 'heat' is no parameter of OpenAI's. What only your server knows goes into extra_body.",
        ),
        ({"upstream": "nowhere"}, "upstream", "There is no upstream 'nowhere'."),
        ({"aliases": ["x/y"]}, "aliases", "aliases: “x/y” is taken: it is the id of an agent in a folder."),
        ({"name": "Desk"}, "name", "name: Lower-case letters, digits, dots, dashes; no spaces."),
        ({"name": "other"}, None, "There is a declared agent of this id already."),
        (
            {"tool_choice": "required", "icon": "abc"},
            "tool_choice",
            (
                "tool_choice: “required” needs tools, and the agent has none. icon: An icon is an emoji, or the URL of "
                "a picture that begins with https://."
            ),
        ),
    ],
)
def test_what_the_form_refuses_is_refused_in_its_words(
    admin: Caller, fields: dict[str, Any], param: str | None, message: str
) -> None:
    DropInFactory.create(agent_id="x/y")
    DeclaredAgentFactory.create(name="other")
    status, answer = admin.ask("POST", ROOT, {"name": "desk", **fields})
    assert (status, answer["error"]["param"], answer["error"]["message"]) == (400, param, message)
    assert DeclaredAgent.objects.count() == 1


def test_what_a_form_or_a_file_made_is_shown_even_where_it_is_beyond_what_is_taken_here(admin: Caller) -> None:
    made = DeclaredAgentFactory.create(name="desk", run_timeout=1e5, instructions="x" * 100_001, aliases=["a" * 201])
    made.full_clean(exclude={"run_timeout"})  # which had no upper bound in former days
    declared_checks.check(made)

    one = admin.ask("GET", DESK)
    assert (one[0], one[1]["run_timeout"], len(one[1]["instructions"])) == (200, 1e5, 100_001)
    assert admin.ask("GET", ROOT) == (200, {"data": [one[1]], "total": 1})


def test_seconds_of_a_run_have_the_bounds_of_the_form(admin: Caller) -> None:
    (field,) = (one for one in DeclaredAgent._meta.fields if one.name == "run_timeout")
    shortest, longest = (one.limit_value for one in field.validators)
    for seconds, status in [(shortest, 201), (longest, 201), (shortest - 0.5, 400), (longest + 0.5, 400)]:
        asked = admin.ask("POST", ROOT, {"name": f"for-{seconds}", "run_timeout": seconds})
        assert asked[0] == status
        assert status == 201 or asked[1]["error"]["param"] == "run_timeout"


def test_unknown_member_is_refused(admin: Caller) -> None:
    status, answer = admin.ask("POST", ROOT, {"name": "desk", "instruction": "x"})
    assert (status, answer["error"]["param"]) == (400, "instruction")


def test_change_leaves_the_rest_alone_and_replacing_does_not(admin: Caller) -> None:
    DeclaredAgentFactory.create(name="desk", title="Desk", parameters={"seed": 1}, stage="draft")

    body = admin.ask("PATCH", DESK, {"stage": "live"})[1]["agent"]
    assert (body["stage"], body["title"], body["parameters"], body["version"]) == ("live", "Desk", {"seed": 1}, 2)

    body = admin.ask("PUT", DESK, {"title": "New", "stage": "live"})[1]["agent"]
    assert (body["stage"], body["title"], body["parameters"], body["version"]) == ("live", "New", {}, 3)

    body = admin.ask("PATCH", DESK, {"name": "counter"})[1]["agent"]
    assert body["id"] == "default/counter"
    assert admin.ask("GET", DESK)[0] == 404


def test_refused_change_changes_nothing(admin: Caller) -> None:
    row = DeclaredAgentFactory.create(name="desk", title="Desk")
    assert admin.ask("PATCH", DESK, {"title": "New", "icon": "abc"})[0] == 400
    row.refresh_from_db()
    assert (row.title, row.versions.count()) == ("Desk", 1)


def test_list_is_filtered_and_paged(admin: Caller) -> None:
    for number in range(3):
        DeclaredAgentFactory.create(name=f"a{number}", stage="draft" if number else "live")
    DeclaredAgentFactory.create(namespace="labs", name="b")

    def listed(query: str = "") -> tuple[list[str], int]:
        body = admin.ask("GET", f"{ROOT}{query}")[1]
        return [one["id"] for one in body["data"]], body["total"]

    assert listed() == (["default/a0", "default/a1", "default/a2", "labs/b"], 4)
    assert listed("?stage=live") == (["default/a0", "labs/b"], 2)
    assert listed("?namespace=default&limit=1&offset=1") == (["default/a1"], 3)
    one, all_of_them = (count(partial(listed, f"?limit={limit}")) for limit in (1, 4))
    assert one == all_of_them


def count(ask: Callable[[], Any]) -> int:
    with CaptureQueriesContext(connection) as queries:
        ask()
    return len(queries)


def test_versions_are_listed_and_returned_to(admin: Caller) -> None:
    DeclaredAgentFactory.create(name="desk", model="first")
    admin.ask("PATCH", DESK, {"model": "second"})

    body = admin.ask("GET", f"{DESK}/versions")[1]
    assert body["total"] == 2
    newest, oldest = body["data"]
    assert (newest["number"], newest["changes"]) == (2, [{"field": "model", "old": "first", "new": "second"}])
    assert (newest["author"], oldest["author"], oldest["changes"]) == ("Automation", "command", [])
    assert oldest["values"]["model"] == "first"

    back = admin.ask("POST", f"{DESK}/versions/1/return")[1]
    assert (back["agent"]["model"], back["agent"]["version"]) == ("first", 3)
    assert admin.ask("POST", f"{DESK}/versions/9/return")[1]["error"]["message"] == (
        "There is no version 9 of default/desk."
    )


def test_agent_is_deleted_with_its_versions(admin: Caller) -> None:
    DeclaredAgentFactory.create(name="desk")
    status, was = admin.ask("DELETE", DESK)
    assert (status, was["id"]) == (200, "default/desk")
    assert admin.ask("DELETE", DESK)[0] == 404
