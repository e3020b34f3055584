"""What modules say about the gateway's tools: `use_gateway_tool` and `gateway_tool`."""

import copy
import gc
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from agents import FunctionTool
from asgiref.sync import async_to_sync
from django.conf import settings as django_settings

from apps.catalog.inspection import inspect_folder
from apps.catalog.models import ModulePolicy
from apps.core import live_config
from apps.tools import lent
from apps.tools.checking import complete
from apps.tools.in_force import TOOLS, description_of
from apps.tools.lent import keep_current, lent_of
from apps.tools.local import find
from apps.tools.models import Tool
from apps.tools.sdk import GatewayToolMark, gateway_tool, mark_of, use_gateway_tool
from apps.tools.tool import Tool as Value
from apps.tools.tool import ToolMissing, ToolOutput
from tests.conftest import write_source
from tests.harness.gateway import run_manage
from tests.harness.processes import clean_environment

OPEN = {"type": "object", "properties": {"q": {"type": "string"}, "limit": {"type": "integer"}}, "required": ["q"]}
STRICT = {
    "type": "object",
    "properties": {"q": {"type": "string"}},
    "required": ["q"],
    "additionalProperties": False,
}

Put = Callable[..., None]


@pytest.fixture
def put(db: None) -> Iterator[Put]:
    """Adds the tool or changes it, and puts that in force."""

    def stored(name: str = "search", **fields: Any) -> None:
        row = Tool.objects.filter(name=name).first() or Tool(name=name, url="https://example.com/?q={q}")
        for field, value in fields.items():
            setattr(row, field, value)
        row.save()
        TOOLS.current()  # what is new is read here, where a database may be
        live_config.refresh()

    yield stored
    live_config.forget()


def delete(name: str = "search") -> None:
    Tool.objects.get(name=name).delete()
    live_config.refresh()


# --- what an agent is given ------------------------------------------------------------------------------------------


def test_tool_has_the_gateways_name_description_and_schema(put: Put) -> None:
    put(description="Searches.", parameters=OPEN)

    tool = use_gateway_tool("search")

    assert isinstance(tool, FunctionTool)
    assert (tool.name, tool.description, tool.params_json_schema) == ("search", "Searches.", OPEN)
    assert (tool.strict_json_schema, tool.needs_approval) == (False, False)


@pytest.mark.parametrize(
    ("schema", "is_strict"),
    [(STRICT, True), (OPEN, False), ({}, False), ({"type": "object", "anyOf": [STRICT, OPEN]}, False)],
)
def test_schema_is_sent_as_it_is_and_strict_only_when_it_is(put: Put, schema: dict[str, Any], is_strict: bool) -> None:
    put(parameters=schema)

    tool = use_gateway_tool("search")

    assert tool.params_json_schema == (schema or {"type": "object", "properties": {}})
    assert tool.strict_json_schema is is_strict


def test_all_agents_share_one_object_for_as_long_as_one_has_it(put: Put) -> None:
    put()
    tool = use_gateway_tool("search")

    put(description="Changed.")
    assert use_gateway_tool("search") is tool

    del tool
    gc.collect()
    assert list(lent._wrappers) == []


def test_object_that_an_agent_has_says_what_operators_changed(put: Put) -> None:
    put(description="Searches.", parameters=STRICT)
    tool = use_gateway_tool("search")

    put(description="Searches better.", parameters=OPEN, needs_approval=True)
    keep_current(tool)

    assert (tool.description, tool.params_json_schema) == ("Searches better.", OPEN)
    assert (tool.strict_json_schema, tool.needs_approval) == (False, True)


def test_what_a_module_does_to_the_schema_does_not_reach_the_gateways(put: Put) -> None:
    put(parameters=OPEN)

    use_gateway_tool("search").params_json_schema["properties"].clear()

    assert TOOLS.current()["search"].parameters == OPEN


def test_copy_says_what_the_module_made_of_it_and_learns_that_a_person_has_to_approve(put: Put) -> None:
    put(description="Searches.")
    tool = use_gateway_tool("search")
    own = replace(tool, description="Mine.", name="find")

    put(description="Changed.", needs_approval=True)
    for one in (tool, own):
        keep_current(one)

    assert [(one.name, one.description, one.needs_approval) for one in (tool, own)] == [
        ("search", "Changed.", True),
        ("find", "Mine.", True),
    ]
    assert lent_of(own) is lent_of(tool) is lent_of(copy.copy(tool))


def test_approval_that_a_module_wants_of_its_copy_stays(put: Put) -> None:
    put()
    own = replace(use_gateway_tool("search"), needs_approval=True)

    keep_current(own)

    assert own.needs_approval is True


# --- calls -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Value, str]]:
    """What is called, with an answer to each."""
    made: list[tuple[Value, str]] = []

    async def call(tool: Value, arguments: str) -> ToolOutput:
        made.append((tool, arguments))
        return ToolOutput(f"by {tool.call.url}")  # type: ignore[union-attr]

    monkeypatch.setattr(lent, "_call", lent._call)  # put back in the end
    lent.install(call)
    return made


async def asked(tool: FunctionTool) -> Any:
    return await tool.on_invoke_tool("the run's context", '{"q": "x"}')  # type: ignore[arg-type]


def test_every_call_is_of_the_tool_that_is_in_force(put: Put, calls: list[Any]) -> None:
    put(url="https://old.example.com/")
    tool = use_gateway_tool("search")
    put(url="https://new.example.com/")

    assert async_to_sync(asked)(tool) == "by https://new.example.com/"
    assert [(value is TOOLS.current()["search"], arguments) for value, arguments in calls] == [(True, '{"q": "x"}')]


@pytest.mark.parametrize("how", [delete, None], ids=["deleted", "switched off"])
def test_tool_that_is_taken_away_is_told_to_the_model_and_comes_back(
    put: Put, calls: list[Any], how: Callable[[], None] | None
) -> None:
    put(description="Searches.")
    tool = use_gateway_tool("search")
    if how:
        how()
    else:
        put(enabled=False)
    keep_current(tool)

    assert async_to_sync(asked)(tool) == "The tool 'search' is not available now. Go on without it."
    assert (tool.description, calls) == ("Searches.", [])

    put(enabled=True)
    assert async_to_sync(asked)(tool) == "by https://example.com/?q={q}"


# --- a tool that is not there ----------------------------------------------------------------------------------------


def test_missing_tool_is_raised_with_the_near_names(put: Put) -> None:
    put("web_search")
    put("forecast")

    with pytest.raises(
        ToolMissing, match=r"The gateway has no tool 'websearch'\. Did you mean 'web_search'\?"
    ) as caught:
        use_gateway_tool("websearch")
    assert caught.value.near == ("web_search",)


def test_where_there_is_no_gateway_a_stand_in_comes() -> None:
    live_config.forget()

    tool = use_gateway_tool("nobody_knows")

    assert (tool.description, tool.params_json_schema) == ("", {"type": "object", "properties": {}})
    lent_to = lent_of(tool)
    assert lent_to
    assert (lent_to.current, lent_to.source) == (None, "gateway")


SEARCHER = """
from agents import Agent

from apps.tools.sdk import use_gateway_tool

agent = Agent(
    name="Searcher",
    tools=[use_gateway_tool("search")],
)
"""
REMEDY = (
    "Write a name that is there; or add the tool search in the admin under Tools, or switch it on there: then the "
    "agent is loaded."
)


def checked(folder: Path) -> list[tuple[str, str, str, str, int | None]]:
    """The problems that check_agent finds with a module that uses the tool 'search'."""
    write_source(folder / "Searcher", SEARCHER)
    report = inspect_folder(folder / "Searcher")
    named = ("code", "severity", "reason", "remedy", "line")
    return [tuple(one[name] for name in named) for one in report["problems"]]  # type: ignore[misc]


def test_check_agent_names_the_line_the_near_names_and_the_remedy(put: Put, tmp_path: Path) -> None:
    put("web_search")

    assert checked(tmp_path) == [
        (
            "tool_missing",
            "error",
            "The gateway has no tool 'search'. Did you mean 'web_search'?",
            REMEDY,
            8,
        )
    ]


def test_check_agent_is_content_with_a_tool_that_is_there(put: Put, tmp_path: Path) -> None:
    put("search")

    assert checked(tmp_path) == []


def test_check_agent_where_there_is_no_gateway_says_that_it_cannot_know(tmp_path: Path) -> None:
    """In a process of its own, which has no database."""
    write_source(tmp_path / "Searcher", SEARCHER)
    environment = clean_environment(GATEWAY_DATA_DIR=str(tmp_path / "data"))

    done = run_manage(environment, "check_agent", str(tmp_path / "Searcher"), "--json")

    (problem,) = json.loads(done.stdout)["problems"]
    assert (problem["code"], problem["severity"]) == ("tool_missing", "warning")
    assert (
        problem["reason"] == "It uses tools of the gateway (search); here is no gateway's database to look them up in."
    )
    assert not (tmp_path / "data").exists() or not list((tmp_path / "data").glob("*.sqlite3"))


def test_denied_imports_of_the_gateways_own_code_do_not_mean_it(put: Put, tmp_path: Path) -> None:
    put("search")
    policy = ModulePolicy.row()
    policy.denied_imports = ["apps.*", "django"]
    policy.save()

    assert checked(tmp_path) == []

    policy.denied_imports = ["apps.tools.sdk"]
    policy.save()
    assert [one[0] for one in checked(tmp_path)] == ["denied_import"]


# --- functions that may be tools -------------------------------------------------------------------------------------


@gateway_tool
def plain(a: int) -> int:
    return a + 1


@gateway_tool(name="named", description="Described.")
async def with_words(a: int) -> int:
    return a + 1


def test_marked_function_stays_the_function_that_it_is() -> None:
    assert plain(1) == 2
    assert mark_of(plain) == GatewayToolMark()
    assert mark_of(with_words) == GatewayToolMark("named", "Described.")
    assert mark_of(len) is None


def test_mark_is_read_when_the_function_becomes_a_tool(settings: Any) -> None:
    settings.GATEWAY_TOOL_MODULES = [__name__]
    row = Tool(kind="local", function=f"{__name__}.with_words")

    complete(row)

    assert (row.name, description_of(row)) == ("named", "Described.")
    assert find(f"{__name__}.plain").name == "plain"


# --- where it is imported --------------------------------------------------------------------------------------------


def run_python(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, capture_output=True, text=True, timeout=100, check=False
    )


def test_importing_it_imports_neither_the_sdk_nor_django() -> None:
    code = "import sys; import apps.tools.sdk; print(sorted({'agents', 'django', 'openai'} & sys.modules.keys()))"

    done = run_python("-c", code, folder=django_settings.ROOT)

    assert (done.stdout, done.stderr) == ("[]\n", "")


TYPED = """
from agents import FunctionTool
from apps.tools.sdk import gateway_tool, use_gateway_tool

tool: FunctionTool = use_gateway_tool("search")
number: int = use_gateway_tool("search")

@gateway_tool
def first(a: int) -> str:
    return ""

@gateway_tool(name="b")
def second(a: int) -> str:
    return ""

reveal_type(first)
reveal_type(second)
"""

CONFIGURED = """
[mypy]
mypy_path = {root}
follow_imports = skip
[mypy-agents,apps.tools.sdk]
follow_imports = silent
"""


def test_type_checkers_know_what_is_what(tmp_path: Path) -> None:
    (tmp_path / "snippet.py").write_text(TYPED)
    (tmp_path / "agents").mkdir()
    (tmp_path / "agents" / "__init__.pyi").write_text("class FunctionTool: ...")  # the real one takes mypy 20 s
    (tmp_path / "mypy.ini").write_text(CONFIGURED.format(root=django_settings.ROOT))

    done = run_python("-m", "mypy", "--strict", "--no-incremental", "--hide-error-codes", "snippet.py", folder=tmp_path)

    told = [line.partition(": ")[2] for line in done.stdout.splitlines() if line.startswith("snippet.py")]
    assert told == [
        'error: Incompatible types in assignment (expression has type "FunctionTool", variable has type "int")',
        'note: Revealed type is "def (a: int) -> str"',
        'note: Revealed type is "def (a: int) -> str"',
    ]
