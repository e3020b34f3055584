"""What models are given and answer, as OpenTelemetry's schemas for messages have it: redacted, and each text cut as the
recording of contents says."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from apps.execution.recorded_text import Keeper, answer_of, text_of
from apps.upstreams.calls import ModelCall

Message = dict[str, Any]

_MOST_MESSAGES: Final = 100  # of a conversation, the last
_REASONS: Final = {"tool_calls": "tool_call"}


def messages_sent(sent: Any, keeper: Keeper) -> Iterator[Message]:
    """The last messages, each as long as a text may be that is kept."""
    if not (isinstance(sent, list | tuple) and sent and all(isinstance(one, Mapping) for one in sent)):
        if text := text_of(sent):
            yield _message("user", _text(keeper.both_ends(text)))
        return
    for one in sent[-_MOST_MESSAGES:]:
        yield _sent(one, keeper)


def said(call: ModelCall, keeper: Keeper) -> Iterator[Message]:
    """One message, if the model said anything."""
    assert call.heard is not None
    if answer := answer_of(call.heard, keeper):
        reason = call.finish_reason or "error"
        yield {**_message("assistant", _text(answer)), "finish_reason": _REASONS.get(reason, reason)}


def _sent(message: Mapping[str, Any], keeper: Keeper) -> Message:
    """A message of a chat, or an item of the Responses API."""
    kind = message.get("type")
    if kind == "function_call":
        return _message("assistant", _call(message.get("call_id"), message, keeper))
    if kind == "function_call_output":
        return _message("tool", _result(message.get("call_id"), message.get("output"), keeper))
    role = message.get("role")
    if not isinstance(role, str):
        return _message("user", _text(keeper.both_ends(text_of([message]))))
    content = message.get("content")
    if role == "tool":
        return _message(role, _result(message.get("tool_call_id"), content, keeper))
    parts = [_text(keeper.both_ends(_read(content)))] if content else []
    parts += [_call(one.get("id"), one.get("function") or {}, keeper) for one in message.get("tool_calls") or ()]
    return _message(role, *parts)


def _message(role: str, *parts: dict[str, Any]) -> Message:
    return {"role": role, "parts": list(parts)}


def _text(content: str) -> dict[str, Any]:
    return {"type": "text", "content": content}


def _call(id: Any, function: Mapping[str, Any], keeper: Keeper) -> dict[str, Any]:
    arguments = keeper.both_ends(text_of(function.get("arguments")))
    return {"type": "tool_call", "id": id, "name": function.get("name"), "arguments": arguments}


def _result(id: Any, output: Any, keeper: Keeper) -> dict[str, Any]:
    return {"type": "tool_call_response", "id": id, "response": keeper.both_ends(_read(output))}


def _read(content: Any) -> str:
    """Pictures and sounds are told of, not kept."""
    if not isinstance(content, list):
        return text_of(content)
    return "\n".join(_part(one) for one in content)


def _part(part: Any) -> str:
    text = part.get("text") if isinstance(part, Mapping) else text_of(part)
    return text if isinstance(text, str) else f"[{part.get('type', 'part')}]"
