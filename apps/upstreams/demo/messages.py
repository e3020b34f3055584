"""The messages of a request: checked as OpenAI's API checks them, and read."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from apps.upstreams.demo.errors import DemoRequestError
from apps.upstreams.demo.fields import Body, listed

Message = Mapping[str, Any]

ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
MEDIA = {"image_url": "image", "input_audio": "sound", "file": "file"}


def checked_messages(body: Body) -> Sequence[Message]:
    """The messages, every tool call of theirs answered. Raises DemoRequestError."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise DemoRequestError("`messages` must be a list with at least one message.", param="messages")
    open_calls: set[str] = set()
    for index, message in enumerate(messages):
        open_calls = _checked_message(message, f"messages[{index}]", open_calls)
    if open_calls:
        raise _unanswered(open_calls, f"messages[{len(messages) - 1}]")
    return messages


def _checked_message(message: Any, where: str, open_calls: set[str]) -> set[str]:
    """The ids of the tool calls that wait for their result after this message. Raises DemoRequestError."""
    if not isinstance(message, Mapping) or str(message.get("role")) not in ROLES:
        raise DemoRequestError(f"`{where}` needs a role, one of {', '.join(sorted(ROLES))}.", param=where)
    text_of(message, where)
    if message["role"] == "tool":
        answered = str(message.get("tool_call_id"))
        if answered not in open_calls:
            raise DemoRequestError(f"`{where}` answers no tool call of the assistant message before it.", param=where)
        return open_calls - {answered}
    if open_calls:
        raise _unanswered(open_calls, where)
    return {_checked_call(call, where) for call in listed(message, "tool_calls", where)}


def _checked_call(call: Any, where: str) -> str:
    """The call's id. Raises DemoRequestError."""
    match call:
        case {"id": str(identifier), "function": {"name": str(), "arguments": str()}}:
            return identifier
    raise DemoRequestError(f"A tool call of `{where}` needs an id, and a function's name and arguments.", param=where)


def _unanswered(open_calls: set[str], where: str) -> DemoRequestError:
    missing = ", ".join(sorted(open_calls))
    return DemoRequestError(f"Tool calls without a result before or at `{where}`: {missing}.", param="messages")


def last_user_index(messages: Sequence[Message]) -> int:
    """Where the last user message is, -1 without one."""
    return next((index for index in reversed(range(len(messages))) if messages[index]["role"] == "user"), -1)


def last_user_text(messages: Sequence[Message]) -> str:
    index = last_user_index(messages)
    return "" if index < 0 else text_of(messages[index])


def text_of(message: Message, where: str = "messages") -> str:
    """The text of a message, its parts joined by line breaks. Raises DemoRequestError."""
    content = message.get("content")
    if content is None:
        return ""
    if isinstance(content, str):
        return _printable(content)
    if not isinstance(content, list):
        raise DemoRequestError(f"`{where}.content` must be a string or a list of parts.", param=f"{where}.content")
    return "\n".join(_printable(text) for text in map(_part_text, content) if text is not None)


def _part_text(part: Any) -> str | None:
    """The text of a part, None for one of another kind. Raises DemoRequestError."""
    match part:
        case {"type": "text", "text": str(text)} | {"type": "refusal", "refusal": str(text)}:
            return text
        case {"type": "image_url" | "input_audio" | "file"}:
            return None
    raise DemoRequestError("A content part must be text, refusal, image_url, input_audio or file.", param="messages")


def _printable(text: str) -> str:
    """Lone surrogates, legal in JSON and not in UTF-8, become question marks."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def texts_of(messages: Iterable[Message], *roles: str) -> list[str]:
    """The texts of the messages of these roles."""
    return [text_of(message) for message in messages if message["role"] in roles]


def calls_in(messages: Iterable[Message]) -> list[Mapping[str, Any]]:
    """The tool calls of these messages, in order."""
    return [call for message in messages for call in message.get("tool_calls") or ()]


def media_in(messages: Iterable[Message]) -> list[str]:
    """The kind of each image, sound and file in these messages."""
    contents = [message["content"] for message in messages if isinstance(message.get("content"), list)]
    return [MEDIA[part["type"]] for parts in contents for part in parts if part["type"] in MEDIA]
