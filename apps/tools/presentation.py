"""What operators are shown of a tool: its state in words, with the remedy."""

from dataclasses import dataclass
from typing import Final

from apps.tools import local
from apps.tools.models import Kind, Tool


@dataclass(frozen=True, slots=True)
class Shown:
    """`code` is ok, off, gone, server_off, server_down or broken; `remedy` is empty where nothing has to be done."""

    code: str
    words: str
    remedy: str = ""


_OK: Final = Shown("ok", "OK")


def state_of(tool: Tool) -> Shown:
    """As this process sees it; the module of a function is imported for that, once. Takes a row with its `server`."""
    if not tool.enabled:
        return Shown("off", "Switched off")
    if tool.gone_at:
        return Shown("gone", "Gone", "The server no longer lists it. Read its tools again, or delete this one.")
    if tool.server and not tool.server.enabled:
        return Shown("server_off", "Server switched off", f"Switch {tool.server.slug} on.")
    if tool.server and tool.server.state == "down":
        return Shown("server_down", "Server down", tool.server.reason)
    return _state_of_function(tool.function) if tool.kind == Kind.LOCAL else _OK


def _state_of_function(path: str) -> Shown:
    try:
        local.find(path)
    except local.FunctionUnusable as error:
        return Shown("broken", "Cannot be imported", str(error))
    return _OK
