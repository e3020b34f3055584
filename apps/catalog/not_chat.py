"""What an Agents SDK project may consist of that cannot answer a chat completion, named as what it is."""

import inspect
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from agents import Agent
from agents.agent import AgentBase

from apps.catalog.diagnostics import Problem, problem
from apps.catalog.packages import PREFIX
from apps.catalog.source import AGENTS, Source

# By name, because importing these classes would ask for packages that are not installed.
_CLASSES: Mapping[str, str] = {
    "RealtimeAgent": "a RealtimeAgent (speech over a realtime session)",
    "RealtimeRunner": "a RealtimeRunner (speech over a realtime session)",
    "VoicePipeline": "a VoicePipeline (speech)",
    "VoiceWorkflowBase": "a voice workflow (speech)",
    "ChatKitServer": "a ChatKitServer",
    "FastAPI": "a FastAPI application",
    "Starlette": "a Starlette application",
    "Flask": "a Flask application",
    "Quart": "a Quart application",
    "FastMCP": "an MCP server",
}
# Names that mean it in one package only: `MCPServer` is also what the SDK calls the client's side.
_CLASSES_OF: Mapping[tuple[str, str], str] = {
    ("mcp", "MCPServer"): "an MCP server",
    ("gradio", "Blocks"): "a Gradio app",
    ("gradio", "ChatInterface"): "a Gradio app",
    ("gradio", "Interface"): "a Gradio app",
}
# Their apps are the module itself.
_PACKAGES: Mapping[str, str] = {"streamlit": "a Streamlit app", "chainlit": "a Chainlit app"}


def in_module(module: ModuleType) -> Problem | None:
    """Of a module that exports nothing else."""
    values = {name: value for name, value in vars(module).items() if not name.startswith("__")}
    what = next(filter(None, (_of_value(name, value) for name, value in values.items())), None)
    return _problem(what, module.__file__ or "") if what else None


def in_source(source: Source, file: Path) -> Problem | None:
    """Of a file that could not be imported, and would build no agent if it could."""
    if source.builds & AGENTS:
        return None
    by_class = (what for name, what in _CLASSES.items() if name in source.builds)
    of_package = (
        what for (package, name), what in _CLASSES_OF.items() if package in source.packages and name in source.builds
    )
    what = next(iter((*by_class, *of_package, *_apps(source.packages))), None)
    return _problem(what, file) if what else None


def _problem(what: str, file: Path | str) -> Problem:
    return problem(
        "not_a_chat_agent",
        f"The module exports {what}, which cannot answer a chat completion.",
        "Export an Agent of the Agents SDK beside it, or move the folder out of the discovery path.",
        file,
    )


def _of_value(name: str, value: Any) -> str | None:
    if isinstance(value, Agent):
        return None
    if isinstance(value, ModuleType):
        return next(iter(_apps({value.__name__})), None)
    # A subclass of ChatKitServer written here counts as well as an instance; an imported class is no export.
    own_class = inspect.isclass(value) and str(value.__module__).startswith(PREFIX)
    kinds = value.__mro__ if own_class else () if inspect.isclass(value) else type(value).__mro__
    named = next(filter(None, map(_of_class, kinds)), None)
    if named or not isinstance(value, AgentBase):
        return f"{named} ({name})" if named else None
    return f"a {type(value).__name__} ({name})"


def _of_class(kind: type) -> str | None:
    package = str(kind.__module__).partition(".")[0]
    return _CLASSES.get(kind.__name__) or _CLASSES_OF.get((package, kind.__name__))


def _apps(packages: frozenset[str] | set[str]) -> list[str]:
    return [what for package, what in _PACKAGES.items() if package in packages]
