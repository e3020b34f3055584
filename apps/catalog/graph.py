"""The graph of agents behind an entry: handoffs, agents used as tools, and what the graph needs to run.

`Handoff._agent_ref` and `FunctionTool._agent_instance` are private to the SDK; tests/catalog/test_sdk_contract.py pins
them.
"""

import inspect
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal

from agents import Agent, FunctionTool, Handoff, OpenAIChatCompletionsModel
from agents.models.interface import Model
from agents.sandbox import SandboxAgent

from apps.tools.lent import lent_of


def reachable(*entries: Agent[Any]) -> tuple[Agent[Any], ...]:
    """Every agent that a run may come to, the entries first, each once."""
    found = list(_distinct(entries))
    for agent in found:  # grows while it is walked
        found.extend(one for one in _distinct(children(agent)) if not any(one is known for known in found))
    return tuple(found)


def children(agent: Agent[Any]) -> Iterator[Agent[Any]]:
    for handoff in agent.handoffs:
        if target := _handoff_target(handoff):
            yield target
    for tool in agent.tools:
        if target := _agent_of_tool(tool):
            yield target


def _handoff_target(handoff: Any) -> Agent[Any] | None:
    target = handoff._agent_ref and handoff._agent_ref() if isinstance(handoff, Handoff) else handoff  # noqa: SLF001
    return target if isinstance(target, Agent) else None


def _agent_of_tool(tool: Any) -> Agent[Any] | None:
    agent = getattr(tool, "_agent_instance", None)
    return agent if isinstance(agent, Agent) else None


@dataclass(frozen=True, slots=True)
class Edge:
    """A way from one agent to another: `target` is its place among the nodes, None where it is not known."""

    kind: Literal["handoff", "tool"]
    name: str  # the tool's, or the target's
    target: int | None


@dataclass(frozen=True, slots=True)
class Node:
    """One agent in plain values, read once at load: nothing later depends on what a module makes of its objects."""

    name: str
    model: str  # the name that it asks for, the class of its own Model object, or ""
    description: str
    tools: tuple[str, ...]
    handoffs: tuple[str, ...]
    mcp_servers: tuple[str, ...]
    own_model: str  # the class of its own Model object, "" for a model of the gateway's upstreams
    needs: tuple[str, ...]  # what only the Responses API can do for it, such as "WebSearchTool"
    runs_commands: bool  # a SandboxAgent
    gateway_tools: tuple[str, ...] = ()  # those that the gateway lends it, by the gateway's names
    edges: tuple[Edge, ...] = ()


_NOWHERE: Final[Mapping[int, int]] = MappingProxyType({})


def describe_all(agents: Sequence[Agent[Any]]) -> tuple[Node, ...]:
    """Of a whole graph, in this order. Raises whatever an agent in an impossible state raises."""
    places = {id(agent): place for place, agent in enumerate(agents)}
    return tuple(describe(agent, places) for agent in agents)


def describe(agent: Agent[Any], places: Mapping[int, int] = _NOWHERE) -> Node:
    """`places` are those of the graph's agents by `id()`. Raises whatever an agent in an impossible state raises."""
    return Node(
        name=str(agent.name),
        model=_model_name(agent),
        description=str(agent.handoff_description or ""),
        tools=tuple(str(getattr(tool, "name", type(tool).__name__)) for tool in agent.tools),
        handoffs=tuple(str(one.agent_name if isinstance(one, Handoff) else one.name) for one in agent.handoffs),
        mcp_servers=tuple(str(server.name) for server in agent.mcp_servers),
        own_model=type(agent.model).__name__ if isinstance(agent.model, Model) else "",
        needs=tuple(_responses_features(agent)),
        runs_commands=isinstance(agent, SandboxAgent),
        gateway_tools=tuple(lent.name for lent in map(lent_of, agent.tools) if lent),
        edges=tuple(_edges(agent, places)),
    )


def _edges(agent: Agent[Any], places: Mapping[int, int]) -> Iterator[Edge]:
    for handoff in agent.handoffs:
        name = handoff.agent_name if isinstance(handoff, Handoff) else handoff.name
        yield Edge("handoff", str(name), places.get(id(_handoff_target(handoff))))
    for tool in agent.tools:
        if target := _agent_of_tool(tool):
            yield Edge("tool", str(getattr(tool, "name", "")), places.get(id(target)))


def _model_name(agent: Agent[Any]) -> str:
    if isinstance(agent.model, Model):
        return str(getattr(agent.model, "model", "") or type(agent.model).__name__)
    return str(agent.model or "")


def _distinct(agents: Iterable[Agent[Any]]) -> Iterator[Agent[Any]]:
    seen: set[int] = set()
    for agent in agents:
        if id(agent) not in seen:
            seen.add(id(agent))
            yield agent


# --- what only the Responses API can do ------------------------------------------------------------------------------


# Their tools and items exist on the Responses API only; Shell is an ordinary function tool.
_RESPONSES_CAPABILITIES = {"Filesystem", "Compaction"}


def _responses_features(agent: Agent[Any]) -> Iterator[str]:
    if isinstance(agent.model, Model) and not isinstance(agent.model, OpenAIChatCompletionsModel):
        return  # the module brings a model of its own, and with it what the model can do
    if agent.prompt is not None:
        yield "prompt="
    for capability in getattr(agent, "capabilities", ()):  # of a SandboxAgent
        if type(capability).__name__ in _RESPONSES_CAPABILITIES:
            yield f"the {type(capability).__name__} capability"
    yield from filter(None, map(responses_feature, agent.tools))


def responses_feature(tool: Any) -> str:
    """What about the tool chat completions do not have; "" for a tool that any server can be told of."""
    if not isinstance(tool, FunctionTool):
        return type(tool).__name__
    return f"the tool search of {tool.name}" if tool.defer_loading or tool.allowed_callers else ""


# --- the run context -------------------------------------------------------------------------------------------------


def context_class(agents: Iterable[Agent[Any]]) -> type | None:
    """The context type that the agents' generics and callbacks name; the entry's own counts first."""
    return next((found for agent in agents for found in _context_classes(agent)), None)


def may_build(context: type) -> bool:
    """Whether the type builds without arguments, found out by doing it once."""
    try:
        context()
    except Exception:  # noqa: BLE001  # the drop-in's own constructor: whatever it raises, the answer is no
        return False
    return True


def _context_classes(agent: Agent[Any]) -> Iterator[type]:
    for argument in typing.get_args(getattr(agent, "__orig_class__", None)):
        yield from _as_class(argument)
    for callback in _callbacks(agent):
        yield from _named_contexts(callback)


def _callbacks(agent: Agent[Any]) -> Iterator[Callable[..., Any]]:
    if callable(agent.instructions):
        yield agent.instructions
    for tool in agent.tools:
        if wrapped := getattr(tool, "__wrapped__", None):
            yield wrapped
        if callable(enabled := getattr(tool, "is_enabled", None)):
            yield enabled
    yield from (guardrail.guardrail_function for guardrail in agent.input_guardrails)
    yield from (guardrail.guardrail_function for guardrail in agent.output_guardrails)


def _named_contexts(callback: Callable[..., Any]) -> Iterator[type]:
    """The X of every parameter annotated RunContextWrapper[X] (or a subclass such as ToolContext[X])."""
    try:
        hints = typing.get_type_hints(callback)
    except Exception:  # noqa: BLE001  # an annotation that does not evaluate is the author's business at run time
        hints = getattr(callback, "__annotations__", {})
    for name, hint in hints.items():
        origin = typing.get_origin(hint)
        if name != "return" and inspect.isclass(origin) and origin.__name__.endswith(("ContextWrapper", "ToolContext")):
            yield from _as_class(typing.get_args(hint)[0])


def _as_class(hint: Any) -> Iterator[type]:
    """`X` and `X | None` are X, `dict[str, Any]` is dict; Any, a type variable and None are nothing."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        for one in typing.get_args(hint):
            yield from _as_class(one)
    elif inspect.isclass(origin):
        yield origin
    elif inspect.isclass(hint) and hint not in (object, typing.Any, types.NoneType):
        yield hint
