"""What a model said, read for the record where contents are recorded: its text, and the tools that it calls."""

from collections.abc import Mapping
from typing import Any

import msgspec

from apps.core.json import UNREADABLE
from apps.upstreams.calls import Heard


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class _Call(msgspec.Struct):
    function: _Function | None = None


class _Said(msgspec.Struct):
    content: Any = None
    refusal: Any = None
    tool_calls: list[_Call] | None = None


class _Choice(msgspec.Struct):
    message: _Said | None = None
    text: str | None = None  # of /completions


class _Whole(msgspec.Struct):
    choices: list[_Choice] | None = None


_said = msgspec.json.Decoder(_Said).decode
_text = msgspec.json.Decoder(str).decode
_whole = msgspec.json.Decoder(_Whole).decode


def hear_said(heard: Heard, said: Any) -> None:
    """A delta or a message: whatever has `content`, `refusal` and `tool_calls`."""
    heard.hear(said.content)
    heard.hear(said.refusal)
    for call in said.tool_calls or ():
        if call.function:
            if call.function.name:
                heard.hear(f"\n→ {call.function.name} ")
            heard.hear(call.function.arguments)


def hear_raw(heard: Heard, data: msgspec.Raw, *, is_text: bool) -> None:
    """The same as JSON, or a string of a completion. What is neither is the client's to judge."""
    try:
        if is_text:
            heard.hear(_text(data))
        else:
            hear_said(heard, _said(data))
    except UNREADABLE:
        return


def hear_whole(heard: Heard, data: bytes) -> None:
    """The first choice of a whole answer."""
    try:
        choices = _whole(data).choices or []
    except UNREADABLE:
        return
    for choice in choices[:1]:
        heard.hear(choice.text)
        if choice.message:
            hear_said(heard, choice.message)


def hear_event(heard: Heard, event: Mapping[str, Any]) -> None:
    """An event of the Responses API."""
    if event["type"] in ("response.output_text.delta", "response.refusal.delta"):
        heard.hear(event.get("delta"))
    elif event["type"] == "response.output_item.done":
        item = event.get("item") or {}
        if item.get("type") == "function_call":
            heard.hear(f"\n→ {item.get('name')} {item.get('arguments')}")
