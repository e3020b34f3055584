"""The names of modules that rules about tools are written for."""

import functools
import os
import shutil
import sys
import textwrap
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from agents import (
    Agent,
    CodeInterpreterTool,
    CustomTool,
    FunctionTool,
    HostedMCPTool,
    WebSearchTool,
    function_tool,
)
from agents.mcp import MCPServerStdio, MCPUtil
from mcp_types import Tool as McpTool

from apps.catalog.packages import Package
from apps.execution.tool_modules import package_of, public_name, source_of
from tests.conftest import write_source

AGENT = """
from agents import Agent, function_tool
from helpers import inner, shout

loud = function_tool(shout)
local = Agent(name="Local")
tools = [loud, inner.as_tool("ask_inner", "Asks."), local.as_tool("ask_local", "Asks.")]
tools.append(Agent(name="Made on the way").as_tool("ask_nameless", "Asks."))
"""
HELPERS = """
import functools

from agents import Agent


def twice(function):
    @functools.wraps(function)
    def both(*arguments):
        return function(*arguments) + function(*arguments)

    return both


@twice
def shout(text: str) -> str:
    return text.upper()


inner = Agent(name="Inner")
"""


@pytest.fixture
def package(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Package]:
    """A drop-in, loaded; the parameter is its id."""
    write_source(tmp_path / "Planner", AGENT)
    write_source(tmp_path / "Planner", HELPERS, name="helpers.py")
    package = Package(request.param, tmp_path / "Planner")
    with package.retained():
        package.import_module("agent")
        yield package


def tools_of(package: Package) -> dict[str, str]:
    """The public name of each tool's module."""
    tools = package.import_module("agent").tools
    return {tool.name: public_name(source_of(tool, [package.name])) for tool in tools}


@pytest.mark.parametrize(
    ("package", "root"),
    [
        ("labs/refund-planner", "agents.labs.refund-planner"),
        ("default/planner", "agents.planner"),
        ("labs/v1.2", "agents.labs.v1.2"),
    ],
    indirect=["package"],
)
def test_tools_of_a_drop_in_are_named_by_its_id_and_their_file(package: Package, root: str) -> None:
    assert tools_of(package) == {
        "shout": f"{root}.helpers",  # not that of the decorator, nor of the file that makes a tool of it
        "ask_inner": f"{root}.helpers",
        "ask_local": f"{root}.agent",
        "ask_nameless": root,
    }


@pytest.mark.parametrize("package", ["labs/planner"], indirect=True)
def test_agent_of_nobody_knows_which_drop_in_has_no_name(package: Package) -> None:
    tool = Agent(name="Nameless").as_tool("ask", "Asks.")

    assert source_of(tool, [package.name, "_dropin.labs__other__g0"]) == ""
    assert source_of(tool) == ""


@pytest.mark.parametrize("package", ["labs/refund-planner"], indirect=True)
def test_agent_that_took_the_place_of_another_is_not_taken_for_it(package: Package) -> None:
    before = tools_of(package)
    package.import_module("helpers").inner = Agent(name="Another")

    assert before["ask_inner"] == "agents.labs.refund-planner.helpers"
    assert tools_of(package)["ask_inner"] == "agents.labs.refund-planner"


def test_package_that_is_gone_is_named_as_far_as_its_own_name_tells() -> None:
    assert public_name("_dropin.labs__refund_planner__g99999999.tools") == "agents.labs.refund_planner.tools"


def spell(text: str) -> str:
    return text


class Speller:
    def spell(self, text: str) -> str:
        return text

    def __call__(self, text: str) -> str:
        return text


def by_hand(function: Any) -> FunctionTool:
    return FunctionTool(name="by_hand", description="", params_json_schema={}, on_invoke_tool=function)


@functools.wraps(shutil.which)
def disguised(*arguments: Any) -> Any:
    return arguments


HERE = __name__


@pytest.mark.parametrize(
    ("tool", "name"),
    [
        (function_tool(spell), HERE),
        (function_tool(os.fspath, strict_mode=False), "os"),
        (function_tool(textwrap.dedent, strict_mode=False), "textwrap"),
        (by_hand(spell), HERE),
        (by_hand(partial(partial(spell), "x")), HERE),
        (by_hand(partial(shutil.which)), "shutil"),
        (by_hand(disguised), "shutil"),
        (by_hand(Speller().spell), HERE),
        (by_hand(Speller()), HERE),
        (by_hand(os.getcwd), "os"),  # a built-in one, of the module posix
        (by_hand([].append), "builtins"),
        (by_hand(Agent.clone), "openai_agents.agent"),  # `agents.` is what drop-ins are called
        (CustomTool(name="custom", description="", on_invoke_tool=spell), HERE),  # type: ignore[arg-type]
        (WebSearchTool(), "hosted.WebSearchTool"),
        (CodeInterpreterTool(tool_config={"type": "code_interpreter", "container": "c"}), "hosted.CodeInterpreterTool"),
        (
            HostedMCPTool(tool_config={"type": "mcp", "server_label": "github", "server_url": "https://x"}),
            "hosted.HostedMCPTool.github",
        ),
    ],
)
def test_functions_and_hosted_tools(tool: Any, name: str) -> None:
    assert public_name(source_of(tool)) == name


def test_wrappers_in_a_circle_end() -> None:
    vars(spell)["__wrapped__"] = spell
    try:
        assert source_of(by_hand(spell)) == HERE
    finally:
        del vars(spell)["__wrapped__"]


def test_tool_of_an_mcp_server_is_named_by_its_server() -> None:
    server = MCPServerStdio(name="Git Hub", params={"command": "x"})
    tool = McpTool(name="star", inputSchema={})

    assert public_name(source_of(MCPUtil.to_function_tool(tool, server, convert_schemas_to_strict=False))) == (
        "mcp.Git Hub"
    )


def test_package_of_a_module() -> None:
    assert package_of("_dropin.labs__planner__g3.tools.web") == "_dropin.labs__planner__g3"
    assert package_of("_dropin.labs__planner__g3") == "_dropin.labs__planner__g3"
    assert package_of("os") == package_of("") == package_of("mcp.github") == ""
    assert "_dropin" in sys.modules
