"""Where a tool comes from, as a dotted name that rules about tools can be written for: docs/tool-access.md lists them.

`source_of` answers in Python's own names, in which a drop-in's module is `_dropin.labs__planner__g3.tools`;
`public_name` makes `agents.labs.planner.tools` of that. `FunctionTool._agent_instance` and `._tool_origin` are private
to the SDK; tests/execution/test_tool_modules.py fails when they move.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, Final

from agents import Agent, CustomTool, FunctionTool, HostedMCPTool, Tool

from apps.catalog import packages
from apps.catalog.scan import DEFAULT_NAMESPACE
from apps.tools.lent import lent_of

_MOST_WRAPPERS: Final = 100  # around one function; a cycle would never end
_SDK: Final = "agents"  # in Python; the drop-ins have this name in public
_PUBLIC_SDK: Final = "openai_agents"
_OS: Final = frozenset({"posix", "nt"})  # where Python keeps the functions that everybody calls os.*


def source_of(tool: Tool, among: Sequence[str] = ()) -> str:
    """The module of the function behind the tool, or what stands for it; "" when it cannot be told.

    `among` are the packages of the drop-ins whose run may be calling it: an agent used as a tool is looked for there.
    """
    if isinstance(tool, HostedMCPTool):
        return f"hosted.HostedMCPTool.{tool.tool_config['server_label']}"
    if isinstance(tool, CustomTool):
        return _module_of(tool.on_invoke_tool)
    if not isinstance(tool, FunctionTool):
        return f"hosted.{type(tool).__name__}"
    if isinstance(tool._agent_instance, Agent):  # noqa: SLF001
        return _source_of_agent(tool._agent_instance, among)  # noqa: SLF001
    origin = tool._tool_origin  # noqa: SLF001
    if origin and origin.mcp_server_name:
        return f"mcp.{origin.mcp_server_name}"
    lent = lent_of(tool)
    return lent.source if lent else _module_of(getattr(tool, "__wrapped__", tool.on_invoke_tool))


def package_of(source: str) -> str:
    """The name of the drop-in's package that the module lies in, "" for all others."""
    parts = source.split(".", 2)
    return ".".join(parts[:2]) if parts[0] == packages.PREFIX else ""


def public_name(source: str) -> str:
    """The name that rules are written for. Case does not count there."""
    if package := package_of(source):
        namespace, _, name = _agent_id(package).partition("/")
        above = _SDK if namespace == DEFAULT_NAMESPACE else f"{_SDK}.{namespace}"
        return f"{above}.{name}{source.removeprefix(package)}"
    if f"{source}.".startswith(f"{_SDK}."):
        return _PUBLIC_SDK + source.removeprefix(_SDK)
    return "os" if source in _OS else source


@lru_cache(maxsize=4096)  # no two versions ever have the same name
def _agent_id(package: str) -> str:
    if found := packages.find(package):
        return found.agent_id
    # Its last run has ended; a thread that the module left behind goes on.
    return package.partition(".")[2].rpartition("__g")[0].replace("__", "/", 1)


def _module_of(function: Callable[..., Any]) -> str:
    behind = _unwrapped(function)
    module: str | None = getattr(behind, "__module__", None)  # for an object with __call__, that of its class
    return module or type(getattr(behind, "__self__", behind)).__module__


def _unwrapped(function: Any) -> Any:
    for _ in range(_MOST_WRAPPERS):
        inner = function.func if isinstance(function, partial) else getattr(function, "__wrapped__", None)
        if inner is None:
            break
        function = inner
    return function


# --- agents as tools -------------------------------------------------------------------------------------------------


def _source_of_agent(agent: Agent[Any], among: Sequence[str]) -> str:
    """The module that has the agent in a variable; else the drop-in itself, when there is but one to think of."""
    for package in among:
        module, variable = _variables(package).get(id(agent), ("", ""))
        # The id may have been that of an agent which is gone.
        if module in sys.modules and vars(sys.modules[module]).get(variable) is agent:
            return module
    return among[0] if len(among) == 1 else ""


@lru_cache(maxsize=1024)
def _variables(package: str) -> Mapping[int, tuple[str, str]]:
    """The module and variable of every agent, by its id(). Modules stand in the order in which their imports ended: the
    first that has the agent is the one that others have it from."""
    found = packages.find(package)
    places: dict[int, tuple[str, str]] = {}
    for name, module in found.modules.items() if found else ():
        for variable, value in list(vars(module).items()):
            if isinstance(value, Agent):
                places.setdefault(id(value), (name, variable))
    return places
