"""Rows of tools: what may be stored, what runs see of it, what operators are told."""

import json
from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.utils import timezone

from apps.core import live_config
from apps.tools import refresh
from apps.tools.in_force import find, tools
from apps.tools.models import Kind, McpServer, Tool
from apps.tools.presentation import state_of
from apps.tools.refresh import Refreshed
from apps.tools.tool import HttpCall, ToolMissing

pytestmark = pytest.mark.django_db
REFUSED = (
    "The module os is not among those whose functions may be tools: apps.tools.examples. Add it to "
    "GATEWAY_TOOL_MODULES and restart the gateway."
)
DAYS = "apps.tools.examples.days_between"


def stored(**fields: Any) -> Tool:
    fields.setdefault("name", "weather")
    if fields.get("kind", Kind.HTTP) == Kind.HTTP:
        fields.setdefault("url", "https://api.example.com/{city}")
    tool = Tool(**fields)
    tool.full_clean()
    tool.save()
    return tool


def wrong(**fields: Any) -> dict[str, list[str]]:
    with pytest.raises(ValidationError) as refused:
        stored(**fields)
    return refused.value.message_dict


@pytest.mark.parametrize(
    ("fields", "field", "sentence"),
    [
        ({"url": ""}, "url", "A URL template looks like https://api.example.com/items/{id}?q={query}: http or https, "),
        (
            {"url": "https://a.b", "parameters": {"type": "string"}},
            "parameters",
            "Arguments are an object: the schema's",
        ),
        ({"parameters": [1]}, "parameters", "A JSON schema is an object: {"),
        ({"parameters": {"properties": {"town": {}}}}, "url", "{city} is no argument of the schema. Add it to the "),
        ({"headers": ["a"]}, "headers", 'Headers are an object: {"Accept-Language": "en"}.'),
        ({"headers": {"a b": "c"}}, "headers", "“a b” is no name of a header: letters, digits and - only."),
        ({"headers": {"a": "b\nc"}}, "headers", "The value of a has to be one line of text."),
        ({"headers": {"a": 3}}, "headers", "The value of a has to be one line of text."),
        ({"headers": {"X-Api-Key": "abc"}}, "headers", "X-Api-Key belongs to the secret headers, which are stored "),
        ({"extract": "items[."}, "extract", "This is no JMESPath ("),
        ({"kind": "mcp"}, "kind", "A tool of an MCP server is made by reading the server's list: add the server."),
        ({"kind": "local"}, "function", "Name the function by its dotted path, such as my_tools.forecast."),
        (
            {"kind": "local", "function": "os.system"},
            "function",
            "The module os is not among those whose functions may",
        ),
        ({"name": "a b"}, "name", "Letters, digits, _ and -; at most 64."),
    ],
)
def test_what_cannot_be_called_is_not_stored(fields: dict[str, Any], field: str, sentence: str) -> None:
    found = wrong(**fields)

    assert {name: told[0][: len(sentence)] for name, told in found.items()} == {field: sentence}


def test_schema_of_a_template_is_made_where_none_is_given() -> None:
    tool = stored(url="https://a.b/{city}?days={days}", headers={"X-L": "{lang}"}, body={"deep": ["{text}"]})

    assert tool.parameters == {
        "type": "object",
        "properties": {name: {"type": "string"} for name in ("city", "days", "lang", "text")},
        "required": ["city"],
        "additionalProperties": False,
    }


def test_function_brings_its_schema_and_description() -> None:
    stored(name="days", kind=Kind.LOCAL, function=DAYS)

    value = find("days")
    assert (value.description, value.parameters["required"]) == (
        "How many days lie between two dates.",
        ["first", "second"],
    )
    assert "description" not in value.parameters


def test_description_of_the_row_counts_first() -> None:
    stored(name="days", kind=Kind.LOCAL, function=DAYS, description="Mine.")

    assert find("days").description == "Mine."


def test_secrets_are_apart_from_the_other_headers() -> None:
    tool = stored(headers={"Accept": "x"})
    tool.secret_headers = {"Authorization": "Bearer abc"}
    tool.save()
    live_config.refresh()

    call = find("weather").call
    assert isinstance(call, HttpCall)
    assert (call.headers, call.secret_headers) == ({"Accept": "x"}, {"Authorization": "Bearer abc"})
    assert "abc" not in repr(find("weather"))
    assert "abc" not in tool.encrypted_headers


def test_only_what_may_be_used_is_in_force() -> None:
    server = McpServer.objects.create(slug="off", url="http://a.b", enabled=False)
    stored(name="on")
    stored(name="switched_off", enabled=False)
    Tool.objects.create(name="gone", gone_at=timezone.now(), url="https://a.b")
    Tool.objects.create(name="of_a_server", kind=Kind.MCP, server=server, remote_name="x")

    assert list(tools()) == ["on"]
    with pytest.raises(ToolMissing) as missing:
        find("onn")
    assert str(missing.value) == "The gateway has no tool 'onn'. Did you mean 'on'?"


@pytest.mark.parametrize(
    ("fields", "server", "code"),
    [
        ({}, None, "ok"),
        ({"enabled": False}, None, "off"),
        ({"gone_at": timezone.now()}, {}, "gone"),
        ({}, {"enabled": False}, "server_off"),
        ({}, {"state": "down", "reason": "Nothing listens there."}, "server_down"),
        ({}, {}, "ok"),
        ({"kind": Kind.LOCAL, "function": "os.system"}, None, "broken"),
        ({"kind": Kind.LOCAL, "function": DAYS}, None, "ok"),
    ],
)
def test_state_is_told_with_its_remedy(fields: dict[str, Any], server: Any, code: str) -> None:
    of_a_server = {} if server is None else {"kind": Kind.MCP, "server": McpServer(slug="s", url="http://a", **server)}

    state = state_of(Tool(**{"name": "x", "url": "https://a.b", **of_a_server, **fields}))

    assert (state.code, bool(state.remedy)) == (code, code not in ("ok", "off"))


# --- reading functions again -----------------------------------------------------------------------------------------


def test_signature_that_changed_is_stored_and_others_are_left_alone(write_module: Callable[[str, str], str]) -> None:
    name = write_module("lent_signature_read", "def f(a: int) -> int:\n    return a")
    for row in ("f", "g", "h"):
        path = {"g": f"{name}.nothing", "f": f"{name}.f", "h": f"{name}.f"}[row]
        Tool.objects.create(name=row, kind=Kind.LOCAL, function=path, parameters={"type": "object"})
    row = Tool.objects.get(name="h")
    row.full_clean()
    row.save()

    assert refresh.read_functions() == [
        Refreshed("f", is_changed=True),
        Refreshed("g", is_changed=False, problem=f"The module {name} has no nothing."),
        Refreshed("h", is_changed=False),
    ]
    assert Tool.objects.get(name="f").parameters["required"] == ["a"]


# --- the command -----------------------------------------------------------------------------------------------------


def listed(*arguments: str) -> list[str]:
    out = StringIO()
    call_command("list_tools", *arguments, stdout=out)
    return out.getvalue().splitlines()


def test_list_says_how_to_begin() -> None:
    assert listed() == ["There are no tools yet. Add one in the admin under Tools, or run import_openapi."]


def test_list_has_states_and_remedies() -> None:
    stored()
    Tool.objects.create(name="odd", kind=Kind.LOCAL, function="os.system")

    assert listed() == [
        f"odd      local  Cannot be imported  {REFUSED}  (gateway.local.os)",
        "weather  http   OK  (gateway.http)",
    ]
    shown = [json.loads(line) for line in listed("--json")]
    assert [(one["name"], one["kind"], one["source"], one["state"]) for one in shown] == [
        ("odd", "local", "gateway.local.os", "broken"),
        ("weather", "http", "gateway.http", "ok"),
    ]
