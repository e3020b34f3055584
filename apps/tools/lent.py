"""The gateway's tools as the SDK's FunctionTools: one for each name, which all agents share that use it.

A wrapper is bound to the name alone. What the tool is like is read from the tools in force: at every call, and whenever
a model is told of it (`keep_current`). It lives as long as an agent has it.
"""

import copy
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from threading import Lock
from typing import Any
from weakref import WeakValueDictionary

from agents import FunctionTool
from agents.exceptions import UserError
from agents.strict_schema import ensure_strict_json_schema

from apps.tools import in_force
from apps.tools.in_force import TOOLS
from apps.tools.invoke import invoke
from apps.tools.tool import Tool, ToolOutput

Call = Callable[[Tool, str], Awaitable[ToolOutput]]


@dataclass(eq=False, slots=True)
class Lent:
    """Which tool a wrapper stands for. Copies that a module makes of the wrapper share it."""

    name: str
    shown: Tool | None = None  # as models were told of it last; None where no tool could be looked up

    @property
    def current(self) -> Tool | None:
        """None while it is deleted or switched off. Reads memory only."""
        return (TOOLS.loaded() or {}).get(self.name)

    @property
    def source(self) -> str:
        """The dotted name that rules about tools are written for."""
        tool = self.current or self.shown
        return tool.source if tool else "gateway"


_wrappers: WeakValueDictionary[str, FunctionTool] = WeakValueDictionary()
_lending = Lock()  # modules are loaded in one thread, and call use_gateway_tool() in another when they run
_call: Call = invoke


def install(call: Call) -> None:
    """Have every call go through `call` from now on, which invokes the tool."""
    global _call  # noqa: PLW0603  # belongs to the process, as the SDK's default runner does
    _call = call


def lend(name: str) -> FunctionTool:
    """The wrapper of this name. Raises ToolMissing.

    In a process that knows no tools, a command where there is no gateway, a wrapper comes all the same.
    """
    if TOOLS.loaded() is not None:
        in_force.find(name)
    with _lending:
        wrapper = _wrappers.get(name)
        if wrapper is None:
            wrapper = _wrappers[name] = _wrapper(Lent(name))
    keep_current(wrapper)
    return wrapper


def lent_of(tool: object) -> Lent | None:
    """What a wrapper, or a module's copy of one, stands for; None for any other tool."""
    lent = getattr(getattr(tool, "on_invoke_tool", None), "lent", None)
    return lent if isinstance(lent, Lent) else None


def keep_current(tool: FunctionTool) -> None:
    """Have the wrapper say what its tool is like now. A module's copy says what the module made it say; that a person
    has to approve, it learns too."""
    lent = lent_of(tool)
    current = lent and lent.current
    if lent is None or current is None:
        return
    if _wrappers.get(lent.name) is not tool:
        if current.needs_approval and tool.needs_approval is False:
            tool.needs_approval = True
    elif lent.shown is not current:
        _show(tool, current)
        lent.shown = current


def _wrapper(lent: Lent) -> FunctionTool:
    async def on_invoke_tool(context: Any, arguments: str) -> str:  # noqa: ARG001  # the run's context is the module's
        tool = lent.current
        return (await _call(tool, arguments)).text if tool else missing(lent.name)

    vars(on_invoke_tool)["lent"] = lent
    return FunctionTool(
        name=lent.name,
        description="",
        params_json_schema={"type": "object", "properties": {}},
        on_invoke_tool=on_invoke_tool,
        strict_json_schema=False,
    )


def missing(name: str) -> str:
    """What the model is told of a tool that was there when the agent was loaded."""
    return f"The tool '{name}' is not available now. Go on without it."


def _show(wrapper: FunctionTool, tool: Tool) -> None:
    wrapper.description = tool.description
    wrapper.params_json_schema = copy.deepcopy(dict(tool.parameters))  # modules may change what they get
    wrapper.strict_json_schema = _is_strict(wrapper.params_json_schema)
    # Not a function that looks it up: the SDK asks a person about unreadable arguments then, whatever it answers.
    wrapper.needs_approval = tool.needs_approval


def _is_strict(schema: dict[str, Any]) -> bool:
    """Whether the schema is in OpenAI's strict form. One that is not is sent as it is: made strict, it would demand
    arguments that are optional."""
    try:
        return ensure_strict_json_schema(copy.deepcopy(schema)) == schema
    except (UserError, TypeError):
        return False
