"""A request's messages → what a run begins with: the SDK's input items for modules, sound messages for declared agents.

Nothing in the SDK converts in this direction.
"""

from collections.abc import Iterator
from typing import Any

from apps.core.errors import InvalidRequest
from apps.openai_api.schemas import (
    AssistantMessage,
    AudioPart,
    DeveloperMessage,
    FilePart,
    ImagePart,
    Message,
    RefusalPart,
    SystemMessage,
    TextPart,
    ToolMessage,
    UserMessage,
)

Item = dict[str, Any]


def run_input(messages: list[Message]) -> str | list[Item]:
    """What a run begins with: the text of a conversation that is one text, as in the SDK's own examples.

    Guardrails and handoff filters see it as it is, and many are written for text. Raises as `input_items`.
    """
    if len(messages) == 1 and isinstance(messages[0], UserMessage) and isinstance(messages[0].content, str):
        return messages[0].content
    return input_items(messages)


def input_items(messages: list[Message]) -> list[Item]:
    """The conversation, faithfully and in order. Raises InvalidRequest for a tool result that answers no call.

    Tool-call ids are made unique over the whole list: histories of servers that begin at call_0 in every answer would
    otherwise overwrite themselves, because the SDK tells calls apart by id. A call that nobody answered (a client that
    stopped in mid-turn) is left out: models refuse a history with an open call.
    """
    items: list[Item] = []
    open_calls: dict[str, str] = {}  # the client's id → ours, of the newest assistant message
    answered = _answered_calls(messages)
    for place, message in enumerate(messages):
        match message:  # the commonest first: pydantic is slow to say what a message is not
            case UserMessage():
                items.append({"role": "user", "content": _user_content(message)})
            case AssistantMessage():
                open_calls = {
                    call.id: f"{place}_{number}_{call.id}"
                    for number, call in enumerate(message.tool_calls or ())
                    if (place, call.id) in answered
                }
                items.extend(_assistant_items(message, open_calls))
            case ToolMessage():
                call_id = _answered_by(message, place, open_calls)
                items.append({"type": "function_call_output", "call_id": call_id, "output": text_of(message.content)})
            case SystemMessage() | DeveloperMessage():
                items.append({"role": message.role, "content": text_of(message.content)})
    return items


def chat_messages(messages: list[Message]) -> list[Item]:
    """The conversation as the next model may be told it, in OpenAI's words. Raises as `input_items`.

    Calls that nobody answered are left out here too, and of an id that was used before a new one is made; others stay,
    since a client's calls are known again by their ids.
    """
    mended: list[Item] = []
    answered = _answered_calls(messages)
    open_calls: dict[str, str] = {}
    used: set[str] = set()
    for place, message in enumerate(messages):
        match message:  # the commonest first: pydantic is slow to say what a message is not
            case UserMessage():
                mended.append({"role": "user", "content": _content(message)})
            case AssistantMessage():
                calls = [call for call in message.tool_calls or () if (place, call.id) in answered]
                open_calls = {call.id: f"{place}_{call.id}" if call.id in used else call.id for call in calls}
                used.update(open_calls.values())
                mended.append(_assistant_message(message, open_calls))
            case ToolMessage():
                call_id = _answered_by(message, place, open_calls)
                mended.append({"role": "tool", "tool_call_id": call_id, "content": text_of(message.content)})
            case SystemMessage() | DeveloperMessage():
                mended.append({"role": message.role, "content": text_of(message.content)})
    return mended


def _content(message: UserMessage) -> Any:
    """As it came: text, or parts."""
    if not message.content or isinstance(message.content, str):
        return message.content or ""
    return message.model_dump(include={"content"}, exclude_none=True)["content"]


def _answered_by(message: ToolMessage, place: int, open_calls: dict[str, str]) -> str:
    """Our id of the call, which is open no longer. Raises InvalidRequest."""
    call_id = open_calls.pop(message.tool_call_id, None)
    if call_id is None:
        raise InvalidRequest(
            f"messages[{place}] is the result of the tool call '{message.tool_call_id}', "
            "but no assistant message before it made that call.",
            param=f"messages[{place}].tool_call_id",
        )
    return call_id


def _assistant_message(message: AssistantMessage, call_ids: dict[str, str]) -> Item:
    """A refusal is text like any other: few servers know the word."""
    parts = [part.get("text") or part.get("refusal") or "" for part in _assistant_parts(message)]
    calls = [
        {
            "id": call_ids[call.id],
            "type": "function",
            "function": {"name": call.function.name, "arguments": call.function.arguments or "{}"},
        }
        for call in message.tool_calls or ()
        if call.id in call_ids
    ]
    text = "\n".join(filter(None, parts))
    return (
        {"role": "assistant", "content": text or None, "tool_calls": calls}
        if calls
        else {
            "role": "assistant",
            "content": text,
        }
    )


def last_user_text(messages: list[Message]) -> str:
    """The text that a workflow gets, which takes no history."""
    for message in reversed(messages):
        if isinstance(message, UserMessage):
            return (
                text_of([part for part in message.content if isinstance(part, TextPart)])
                if isinstance(message.content, list)
                else message.content or ""
            )
    return ""


def text_of(content: str | list[Any] | None) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    return "\n".join(part.text for part in content)


def _answered_calls(messages: list[Message]) -> set[tuple[int, str]]:
    """(place of the assistant message, call id) of every call whose result follows it."""
    answered: set[tuple[int, str]] = set()
    asked_at = -1
    for place, message in enumerate(messages):
        if isinstance(message, AssistantMessage):
            asked_at = place
        elif isinstance(message, ToolMessage):
            answered.add((asked_at, message.tool_call_id))
    return answered


def _user_content(message: UserMessage) -> str | list[Item]:
    if not isinstance(message.content, list):
        return message.content or ""
    return [_user_part(part) for part in message.content]


def _user_part(part: TextPart | ImagePart | AudioPart | FilePart) -> Item:
    match part:
        case TextPart():
            return {"type": "input_text", "text": part.text}
        case ImagePart():
            return {"type": "input_image", "image_url": part.image_url.url, "detail": part.image_url.detail or "auto"}
        case AudioPart():
            return {"type": "input_audio", "input_audio": part.input_audio.model_dump()}
        case FilePart():
            return {"type": "input_file", **part.file.model_dump(exclude_none=True)}


def _assistant_items(message: AssistantMessage, call_ids: dict[str, str]) -> Iterator[Item]:
    calls = [call for call in message.tool_calls or () if call.id in call_ids]
    parts = list(_assistant_parts(message))
    if parts and not calls and all(part["type"] == "output_text" for part in parts):
        yield {"role": "assistant", "content": "\n".join(part["text"] for part in parts)}
    elif parts:
        # The short form would become a second assistant message beside the calls, which strict templates refuse.
        yield {"type": "message", "id": "__fake_id__", "role": "assistant", "status": "completed", "content": parts}
    for call in calls:
        yield {
            "type": "function_call",
            "call_id": call_ids[call.id],
            "name": call.function.name,
            "arguments": call.function.arguments or "{}",
        }


def _assistant_parts(message: AssistantMessage) -> Iterator[Item]:
    if isinstance(message.content, str):
        if message.content:
            yield {"type": "output_text", "text": message.content, "annotations": []}
    else:
        for part in message.content or ():
            if isinstance(part, RefusalPart):
                yield {"type": "refusal", "refusal": part.refusal}
            else:
                yield {"type": "output_text", "text": part.text, "annotations": []}
    if message.refusal:
        yield {"type": "refusal", "refusal": message.refusal}
