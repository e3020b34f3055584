"""The Tool rows of what MCP servers list."""

import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection
from mcp_types import Tool as Listed
from mcp_types import ToolAnnotations
from structlog.testing import capture_logs

from apps.core.models import ConfigVersion
from apps.tools.mcp import rows
from apps.tools.mcp.rows import Refreshed, store_tools
from apps.tools.models import McpServer, Tool

SCHEMA = {"type": "object", "properties": {"q": {"type": "string"}}}

pytestmark = pytest.mark.django_db


def server(slug: str = "box", **fields: Any) -> McpServer:
    row = McpServer(slug=slug, url="http://127.0.0.1:9/mcp", **fields)
    row.save()
    return row


def listed(name: str, description: str = "Does it.", **hints: bool) -> Listed:
    annotations = ToolAnnotations(**hints) if hints else None
    return Listed(name=name, description=description, input_schema=SCHEMA, annotations=annotations)


def test_listed_tools_become_rows() -> None:
    box = server(timeout=7)

    assert store_tools(box.pk, [listed("read"), listed("write")]) == Refreshed("box", added=("box_read", "box_write"))

    shown = Tool.objects.values("name", "kind", "remote_name", "description", "parameters", "timeout", "is_idempotent")
    assert shown[0] == {
        "name": "box_read", "kind": "mcp", "remote_name": "read", "description": "Does it.", "parameters": SCHEMA,
        "timeout": 7, "is_idempotent": False,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("hints", "expected"),
    [({"read_only_hint": True}, True), ({"idempotent_hint": True}, True), ({"destructive_hint": True}, False)],
)
def test_hints_decide_at_first_whether_a_call_may_be_repeated(hints: dict[str, bool], expected: bool) -> None:
    box = server()
    store_tools(box.pk, [listed("read", **hints)])
    assert Tool.objects.get().is_idempotent is expected
    Tool.objects.update(is_idempotent=not expected)
    store_tools(box.pk, [listed("read", "Another.", **hints)])
    assert Tool.objects.get().is_idempotent is not expected


def test_the_same_list_changes_nothing() -> None:
    box = server()
    store_tools(box.pk, [listed("read")])
    before = ConfigVersion.current()
    assert store_tools(box.pk, [listed("read")]) == Refreshed("box")
    assert ConfigVersion.current() == before


def test_changed_tool_follows_and_keeps_what_operators_set() -> None:
    box = server()
    store_tools(box.pk, [listed("read")])
    Tool.objects.update(name="lookup", needs_approval=True, cache_seconds=60, enabled=False, timeout=3)

    assert store_tools(box.pk, [listed("read", "New words.")]) == Refreshed("box", changed=("lookup",))

    row = Tool.objects.get()
    assert (row.description, row.needs_approval, row.cache_seconds, row.enabled, row.timeout) == (
        "New words.", True, 60, False, 3,
    )  # fmt: skip


def test_vanished_tool_stays_out_of_use_until_it_is_back() -> None:
    box = server()
    store_tools(box.pk, [listed("read"), listed("write")])
    assert store_tools(box.pk, [listed("write")]) == Refreshed("box", gone=("box_read",))
    assert store_tools(box.pk, [listed("write")]) == Refreshed("box")
    assert list(Tool.objects.filter(gone_at=None).values_list("name", flat=True)) == ["box_write"]
    assert store_tools(box.pk, [listed("write"), listed("read")]) == Refreshed("box", added=("box_read",))
    assert not Tool.objects.exclude(gone_at=None).exists()


def test_only_allowed_tools_are_taken() -> None:
    box = server(allowed_tools=["read_*"])
    store_tools(box.pk, [listed("read_a"), listed("write_a")])
    assert list(Tool.objects.values_list("name", flat=True)) == ["box_read_a"]
    McpServer.objects.update(allowed_tools=["write_*"])
    assert store_tools(box.pk, [listed("read_a"), listed("write_a")]) == Refreshed(
        "box", added=("box_write_a",), gone=("box_read_a",)
    )


def test_names_are_what_models_take_and_stay() -> None:
    box = server()
    names = ["a.b", "a/b", "naïve 🌍", "x" * 150, "x" * 149 + "y", "plain"]

    store_tools(box.pk, [listed(name) for name in names])

    by_remote = dict(Tool.objects.values_list("remote_name", "name"))
    assert (by_remote["plain"], by_remote["a.b"], by_remote["naïve 🌍"]) == ("box_plain", "box_a_b", "box_na_ve__")
    assert re.fullmatch(r"box_a_b_[0-9a-f]{6}", by_remote["a/b"])
    assert len(set(by_remote.values())) == 6
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name) for name in by_remote.values())
    assert store_tools(box.pk, [listed(name) for name in reversed(names)]) == Refreshed("box")


def deep() -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(2_000):
        schema = {"properties": {"a": schema}}
    return schema


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"name": "x" * 201}, "Its name has 201 characters; it may have 200."),
        ({"name": ""}, "Its name has 0 characters; it may have 200."),
        ({"description": "a\0b"}, "It has NUL characters in it."),
        ({"input_schema": {"type": "object", "default": {"a": "\0"}}}, "It has NUL characters in it."),
        ({"description": "long " * 25_000}, "Its description and schema have 125,"),
        ({"input_schema": {"type": "array"}}, "Arguments are an object"),
        ({"input_schema": {"type": "object", "properties": 5}}, "This is no JSON schema, at $.properties"),
        ({"input_schema": deep()}, "Its schema is too deep."),
    ],
)
def test_tool_that_cannot_be_one_is_left_out_and_the_others_are_taken(fields: dict[str, Any], reason: str) -> None:
    box = server()
    store_tools(box.pk, [listed("read"), listed("odd")])

    with capture_logs() as lines:
        store_tools(box.pk, [listed("read", "New words."), listed("odd").model_copy(update=fields), listed("write")])

    assert list(Tool.objects.filter(gone_at=None).values_list("name", flat=True)) == ["box_read", "box_write"]
    (line,) = [one for one in lines if one["event"] == "mcp_tool_unusable"]
    assert line["reason"].startswith(reason)


def test_schema_that_refers_to_itself_is_taken() -> None:
    tree = {"type": "object", "properties": {"children": {"type": "array", "items": {"$ref": "#"}}}}

    store_tools(server().pk, [listed("read").model_copy(update={"input_schema": tree})])

    assert Tool.objects.get().parameters == tree


def test_name_that_another_tool_has_gets_a_suffix() -> None:
    Tool(name="box_read", kind="http", url="http://127.0.0.1:9/").save()
    (name,) = store_tools(server().pk, [listed("read")]).added
    assert re.fullmatch(r"box_read_[0-9a-f]{6}", name)


def test_server_that_was_deleted_meanwhile_gets_no_tools() -> None:
    assert store_tools(4711, [listed("read")]) == Refreshed("")
    assert not Tool.objects.exists()


def test_state_is_noted_without_waking_anybody() -> None:
    box = server()
    before = ConfigVersion.current()
    rows.note(box.pk, state="down", reason="It is off.")
    first = McpServer.objects.get()
    rows.note(box.pk, state="down", reason="It is still off.")
    second = McpServer.objects.get()
    assert (second.state, second.reason) == ("down", "It is still off.")
    assert second.state_since == first.state_since
    assert second.checked_at > first.checked_at  # type: ignore[operator]
    assert ConfigVersion.current() == before


@pytest.mark.django_db(transaction=True)
def test_workers_that_store_at_once_do_not_fight() -> None:
    pk, names = server().pk, [f"tool{number}" for number in range(20)]

    def store(_: int) -> Refreshed:
        try:
            return store_tools(pk, [listed(name) for name in names])
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(store, range(4)))

    assert sorted(len(one.added) for one in done) == [0, 0, 0, 20]
    assert Tool.objects.count() == 20
