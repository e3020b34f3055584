"""What Python modules say about the gateway's tools: `from apps.tools.sdk import gateway_tool, use_gateway_tool`.

A drop-in gives an agent a tool that the gateway owns:

    agent = Agent(name="Desk", tools=[use_gateway_tool("search")])

A module of functions that operators may lend as local tools says how they are called there:

    @gateway_tool(name="forecast", description="The weather of the next days.")
    def weather_forecast(city: str, days: int = 3) -> str: ...

Importing this imports neither the Agents SDK nor Django, so that such a module works in its own tests, too. More in
docs/agents.md and docs/tool-access.md.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar, overload

if TYPE_CHECKING:
    from agents import FunctionTool

__all__ = ["GatewayToolMark", "gateway_tool", "mark_of", "use_gateway_tool"]

F = TypeVar("F", bound=Callable[..., Any])

_MARK: Final = "__gateway_tool__"


@dataclass(frozen=True, slots=True)
class GatewayToolMark:
    """What a function is called as a tool; empty: its own name, and what its docstring says."""

    name: str = ""
    description: str = ""


@overload
def gateway_tool(function: F, /) -> F: ...


@overload
def gateway_tool(*, name: str = "", description: str = "") -> Callable[[F], F]: ...


def gateway_tool(function: Any = None, /, *, name: str = "", description: str = "") -> Any:
    """Mark a function as meant to be a local tool of the gateway. It stays the function that it is."""

    def marked(function: F) -> F:
        setattr(function, _MARK, GatewayToolMark(name, description))
        return function

    return marked if function is None else marked(function)


def mark_of(function: Callable[..., Any]) -> GatewayToolMark | None:
    """The mark of a function that has one."""
    mark = getattr(function, _MARK, None)
    return mark if isinstance(mark, GatewayToolMark) else None


def use_gateway_tool(name: str) -> "FunctionTool":
    """The gateway's tool of this name, for the `tools` of an Agent.

    It has the schema and description that the gateway has for it, and is called by the gateway's rules. What operators
    change about it counts from the next call on. All agents share the object: `dataclasses.replace(tool, ...)` makes
    one of your own.

    Raises ToolMissing (a LookupError) when the gateway has no such tool. A module that lets it pass does not load, and
    is loaded by itself when there is one.
    """
    from apps.tools import lent

    return lent.lend(name)
