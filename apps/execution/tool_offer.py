"""What the model of a declared agent may call in a run: tools of the gateway, and those that the client runs itself."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog

from apps.catalog.declared import Declared
from apps.catalog.models import DeclaredAgent
from apps.core.errors import InvalidRequest
from apps.execution import callers
from apps.execution.order import DeclaredOrder
from apps.execution.tool_access import may_offer_tool
from apps.tools import in_force
from apps.tools.tool import Tool

Schema = Mapping[str, Any]

_LISTED: Final = 5  # tools that an error names

log = structlog.get_logger(__name__)
_missing: dict[str, frozenset[str]] = {}  # what was logged of each agent


@dataclass(frozen=True, slots=True)
class ToolOffer:
    """`own` and `client` by name; no name is in both."""

    own: Mapping[str, Tool]
    client: Mapping[str, Schema]
    choice: Any = "auto"  # OpenAI's tool_choice, of the first model call
    parallel: bool | None = None

    def parameters(self, *, is_first: bool, is_last: bool) -> dict[str, Any]:
        """The members of a request that concern tools.

        A forced choice is for the first call: the model has to be able to answer. In the last call that a run may make
        the gateway's tools are not offered, for nobody would read their results.
        """
        own = () if is_last and not is_first else self.own.values()
        tools = [*map(_schema, own), *self.client.values()]
        if not tools:
            return {}
        asked: dict[str, Any] = {"tools": tools}
        choice = self.choice if is_first or self.choice == "none" else "auto"
        if choice != "auto":  # which is what no choice means; some servers do not know the word
            asked["tool_choice"] = choice
        if self.parallel is not None:
            asked["parallel_tool_calls"] = self.parallel
        return asked

    def unknown(self, name: str) -> str:
        """What the model is told when it calls something that it was not offered."""
        caller = callers.current()
        if caller and (refused := caller.refused.get(name)):
            return refused
        near = difflib.get_close_matches(name, [*self.own, *self.client], n=3)
        hint = f" Did you mean {_either(near)}?" if near else " Go on without it."
        return f"There is no tool {name!r}.{hint}"


_NOTHING: Final = ToolOffer({}, {})


def offer_for(order: DeclaredOrder) -> ToolOffer:
    """Raises InvalidRequest for a client's tool or choice that makes no sense here."""
    declared = order.declared
    if not (declared.tools or order.client_tools or order.tool_choice):  # as of most
        _missing.pop(order.agent_id, None)
        return _NOTHING
    own = _own(declared)
    client = _named(order.client_tools)
    if clash := next((name for name in client if name in own), None):
        raise InvalidRequest(
            f"The agent '{order.agent_id}' has a tool '{clash}' itself. Give yours another name.",
            param="tools",
            code="tool_name_taken",
        )
    parallel = order.parameters.get("parallel_tool_calls", declared.parallel_tool_calls)
    return ToolOffer(own, client, _choice(order, own, client), parallel)


def _own(declared: Declared) -> Mapping[str, Tool]:
    if declared.tool_choice == DeclaredAgent.ToolChoice.NONE:
        return {}
    _tell_of_missing(declared)
    return {one.name: one for one in in_force.matching(declared.tools) if may_offer_tool(one.name, one.source)}


def _tell_of_missing(declared: Declared) -> None:
    """Once, until it is another set: tools that are gone or switched off."""
    known = in_force.tools()
    missing = frozenset(name for name in declared.tools if name not in known and "*" not in name)
    if missing and _missing.get(declared.agent_id) != missing:
        log.warning("agent_tools_missing", agent=declared.agent_id, tools=sorted(missing))
    _missing[declared.agent_id] = missing


def _named(tools: Sequence[Schema]) -> Mapping[str, Schema]:
    found: dict[str, Schema] = {}
    for place, tool in enumerate(tools):
        function = tool.get("function")
        name = function.get("name") if tool.get("type") == "function" and isinstance(function, dict) else None
        if not isinstance(name, str) or not name:
            raise InvalidRequest(
                f"tools[{place}] is not a function with a name; declared agents take no other kind of tool.",
                param=f"tools[{place}]",
            )
        found[name] = tool
    return found


def _choice(order: DeclaredOrder, own: Mapping[str, Tool], client: Mapping[str, Schema]) -> Any:
    """The client's choice; where it leaves it open, the agent's, until a tool was called for this message."""
    asked = order.tool_choice
    if asked in (None, "auto"):
        return "auto" if _called_since_user(order.messages) else _agents_choice(order.declared, own)
    if asked == "none":
        return "none"
    name = _chosen_name(asked)
    if name and name not in own and name not in client:
        near = difflib.get_close_matches(name, [*own, *client], n=3) or sorted([*own, *client])[:_LISTED]
        hint = f"Did you mean {_either(near)}?" if near else "It has none, and the request brings none."
        raise InvalidRequest(
            f"tool_choice names the tool {name!r}, which '{order.agent_id}' does not have. {hint}", param="tool_choice"
        )
    if not own and not client:
        raise InvalidRequest(
            f"tool_choice is {asked!r}, but '{order.agent_id}' has no tool, and the request brings none.",
            param="tool_choice",
        )
    return asked


def _chosen_name(asked: Any) -> str:
    """Empty for "required"."""
    if asked == "required":
        return ""
    function = asked.get("function") if isinstance(asked, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(name, str):
        raise InvalidRequest(
            "tool_choice is auto, none, required, or a function by its name.",
            param="tool_choice",
            code="unsupported_parameter",
        )
    return name


def _agents_choice(declared: Declared, own: Mapping[str, Tool]) -> Any:
    chosen = declared.tool_choice
    if chosen == DeclaredAgent.ToolChoice.REQUIRED:
        return "required" if own else "auto"
    return {"type": "function", "function": {"name": chosen}} if chosen in own else "auto"


def _called_since_user(messages: Sequence[Schema]) -> bool:
    """The agent asks for a tool before the first answer, not after every result that the client brings."""
    for message in reversed(messages):
        if message["role"] == "user":
            return False
        if message["role"] == "tool":
            return True
    return False


def _schema(tool: Tool) -> Schema:
    function = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return {"type": "function", "function": function}


def _either(names: Sequence[str]) -> str:
    return " or ".join(map(repr, names))
