"""The tools that a request offers, and what its `tool_choice` says about them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from apps.upstreams.demo.errors import DemoRequestError
from apps.upstreams.demo.fields import Body, listed
from apps.upstreams.demo.keywords import keywords


@dataclass(frozen=True)
class Tool:
    """A function tool."""

    name: str
    description: str
    schema: Any

    def likeness(self, words: frozenset[str]) -> int:
        """How well the tool fits a text of these keywords; one of the name counts twice."""
        return 2 * len(words & keywords(self.name)) + len(words & keywords(self.description))


def is_handoff(name: str) -> bool:
    return name.startswith("transfer_to_")  # what the Agents SDK calls its handoff tools


def checked_tools(body: Body) -> dict[str, Tool]:
    """The tools by name. Raises DemoRequestError."""
    tools = {}
    for index, tool in enumerate(listed(body, "tools")):
        match tool:
            case {"type": "function", "function": {"name": str(name)} as function}:
                description = function.get("description") or ""
                tools[name] = Tool(name, str(description), function.get("parameters") or {"type": "object"})
            case _:
                raise DemoRequestError("A tool needs type `function` and a function's name.", param=f"tools[{index}]")
    return tools


def checked_choice(body: Body, tools: Mapping[str, Tool]) -> str | Tool:
    """`auto`, `none`, `required`, or the tool that is to be called. Raises DemoRequestError."""
    match body.get("tool_choice"):
        case None:
            return "auto"
        case "auto" | "none" | "required" as choice:
            return str(choice)
        case {"function": {"name": str(name)}} if name in tools:
            return tools[name]
    raise DemoRequestError(
        "`tool_choice` must be auto, none, required, or name an offered function.", param="tool_choice"
    )
