"""What models and tools are given and answer, as text that may be kept: without credentials, and not too long.

Taken out are the secrets that the gateway knows (of upstreams, tools and MCP servers, and of its environment) and what
looks like a credential. Made where steps are written, beside the requests.
"""

import os
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from apps.core import redaction
from apps.core.json import encode
from apps.tools.in_force import TOOLS
from apps.tools.mcp.server import SERVERS
from apps.tools.redaction import looks_secret, redacted, secret_parts
from apps.tools.tool import HttpCall
from apps.upstreams.calls import Heard
from apps.upstreams.routing import upstreams

# Characters beyond a cut that are looked at and thrown away, so that no credential is cut in two and so not recognised.
BEYOND: Final = 2_048
_SHORTEST: Final = 6  # characters of a secret: less stands in any text


class Keeper:
    """For some texts at once: gathers what is secret once. `most` characters of each are kept."""

    def __init__(self, most: int) -> None:
        self._most = most
        whole = {secret for secret in _secrets() if len(secret) >= _SHORTEST}
        self._secrets = sorted({*whole, *secret_parts(_headers())}, key=len, reverse=True)

    def beginning(self, text: str, length: int | None = None) -> str:
        """Its first characters. `length` is what the whole has, of which `text` may be the beginning only."""
        length = len(text) if length is None else length
        if length <= self._most:
            return self._safe(text)
        return f"{self._head(text, self._most)}\n{_left_out(length - self._most)}"

    def both_ends(self, text: str) -> str:
        """Of a conversation the end says most: three quarters of what is kept are its last characters."""
        if len(text) <= self._most:
            return self._safe(text)
        first = self._most // 4
        last = self._most - first
        tail = self._safe(text[-last - BEYOND :])[-last:]
        return f"{self._head(text, first)}\n{_left_out(len(text) - self._most)}\n{tail}"

    def _head(self, text: str, most: int) -> str:
        return self._safe(text[: most + BEYOND])[:most]

    def _safe(self, text: str) -> str:
        return redaction.redacted(redacted(text, self._secrets))


def answer_of(heard: Heard, keeper: Keeper) -> str:
    """What the model said, fit to be kept. Made once: to look for credentials costs more than all else about it."""
    if heard.kept is None:
        heard.kept = keeper.beginning(heard.answer.strip(), heard.characters)
    return heard.kept


def _left_out(characters: int) -> str:
    return f"[… {characters:,} characters left out …]"


def _secrets() -> Iterator[str]:
    yield from (target.secret for target in upstreams.current().targets.values())
    for server in SERVERS.current().values():
        yield from server.secrets
    yield from (value for name, value in os.environ.items() if looks_secret(name))


def _headers() -> Iterator[str]:
    for tool in TOOLS.current().values():
        if isinstance(tool.call, HttpCall):
            yield from tool.call.secret_headers.values()


# --- values as text ---------------------------------------------------------------------------------------------------


def text_of(value: Any) -> str:
    """Text as it is, messages as a person reads them, all else as JSON."""
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, list | tuple) and value and all(isinstance(one, Mapping) for one in value):
        return "\n".join(map(_message, value))
    return _json(value)


def _message(message: Mapping[str, Any]) -> str:
    """Of a chat, or an item of the Responses API."""
    if "role" not in message:
        return _item(message)
    lines = [_content(message.get("content"))] if message.get("content") else []
    for call in message.get("tool_calls") or ():
        function = call.get("function") or {}
        lines.append(f"→ {function.get('name')} {function.get('arguments')}")
    return f"{message['role']}: " + "\n".join(lines)


def _item(item: Mapping[str, Any]) -> str:
    kind = item.get("type")
    if kind == "function_call":
        return f"→ {item.get('name')} {item.get('arguments')}"
    if kind == "function_call_output":
        return f"tool: {_content(item.get('output'))}"
    return _json(item)


def _content(content: Any) -> str:
    if not isinstance(content, list):
        return text_of(content)
    return "\n".join(map(_part, content))


def _part(part: Any) -> str:
    """A picture or a sound is told of, not kept."""
    if not isinstance(part, Mapping):
        return text_of(part)
    text = part.get("text")
    return text if isinstance(text, str) else f"[{part.get('type', 'part')}]"


def _json(value: Any) -> str:
    """A module's tool may answer with any object."""
    try:
        return encode(value).decode(errors="replace")
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError):
        return _described(value)


def _described(value: Any) -> str:
    try:
        return str(value)
    except Exception as error:  # noqa: BLE001  # a module's own __str__
        return f"[{type(value).__name__}: {type(error).__name__}]"
