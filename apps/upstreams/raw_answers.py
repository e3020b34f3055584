"""Answers of servers that are handed on as they came, and mended only where a client could not use them.

The top level of each object is decoded, its members stay the server's own bytes. Deeper goes only what a record needs
(finish reasons, usage) and a choice that has to be changed. Streams are in raw_stream.py; docs/upstreams.md lists what
servers do.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from apps.core.errors import UpstreamError
from apps.core.json import UNREADABLE, encode
from apps.upstreams.calls import ModelCall, number
from apps.upstreams.chat_stream import Function, ToolCall, ToolCallIds
from apps.upstreams.routing import Target

Members = dict[str, Any]  # of an object; values are msgspec.Raw, or Python's where they were changed

CHAT, COMPLETIONS, EMBEDDINGS = "/chat/completions", "/completions", "/embeddings"
NOTHING, NULL = msgspec.Raw(b""), msgspec.Raw(b"null")

# Open WebUI hands `event` on to the browser, which may act on it, changes the chat's model at `selected_model_id`, and
# takes an object with a `type` for one of the Responses API.
_NOT_FOR_CLIENTS = ("event", "type", "selected_model_id")


class Choice(msgspec.Struct):
    """What has to be known of a choice: in a stream of chat completions, in a whole one, in a completion of a text."""

    index: int | None = None
    finish_reason: str | None = None
    delta: msgspec.Raw = NOTHING
    message: msgspec.Raw = NOTHING
    text: msgspec.Raw = NOTHING


class _Head(msgspec.Struct):
    choices: list[Choice] | None = None
    error: Any = None


class _Message(msgspec.Struct):
    content: msgspec.Raw = NULL
    refusal: msgspec.Raw = NULL


_decode = msgspec.json.Decoder().decode
_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_head = msgspec.json.Decoder(_Head).decode
_message = msgspec.json.Decoder(_Message).decode


class RawAnswer:
    """What streams and whole answers have in common. `body` is what was sent to `path`."""

    what = "an answer"

    def __init__(self, target: Target, call: ModelCall, path: str, body: Mapping[str, Any]) -> None:
        self._target = target
        self._call = call
        self._is_chat = path == CHAT
        self._body = body
        self._reported: msgspec.Raw | None = None  # usage
        self._tool_calls: dict[int, ToolCallIds] = {}  # by choice
        self._names_its_tool = isinstance(body.get("tool_choice"), dict)  # then OpenAI itself finishes with "stop"

    def _read(self, data: bytes) -> tuple[Members, list[Choice] | None]:
        """The members of an object that tells of no error. Raises UpstreamError."""
        try:
            if not data.isascii():
                data.decode()
            if b"\n" in data or b"\r" in data:  # ends a line of an event stream; in JSON it is but a space
                data = encode(_decode(data))
            members, head = _members(data), _head(data)
        except UNREADABLE as error:
            raise self._garbage(data) from error
        if head.error:
            said = head.error.get("message") if isinstance(head.error, dict) else head.error
            raise UpstreamError(f"Upstream '{self._target.slug}' failed in the middle of its answer: {said}")
        for name in _NOT_FOR_CLIENTS:
            members.pop(name, None)
        usage = members.pop("usage", NULL)
        if usage != NULL:
            self._reported = usage
        return members, head.choices

    def _garbage(self, data: bytes) -> UpstreamError:
        return UpstreamError(
            f"Upstream '{self._target.slug}' sent something that is not {self.what}: {data[:80]!r}",
            code="upstream_garbage",
        )

    def _mended(self, data: bytes, choices: msgspec.Raw, mend: Callable[[Members], None]) -> list[Members]:
        """The choices, each of them mended in place. Raises UpstreamError where they are not what they should be."""
        made: list[Members] = _decode(choices)
        try:
            for choice in made:
                mend(choice)
        except (AttributeError, KeyError, TypeError, msgspec.ValidationError) as error:
            raise self._garbage(data) from error
        return made

    def _identify(self, index: int, calls: list[Members]) -> None:
        """Makes the tool calls of a choice such that a client can tell them apart."""
        ids = self._tool_calls.get(index)
        if ids is None:
            ids = self._tool_calls[index] = ToolCallIds(self._body["messages"])
        known = [ToolCall(one.get("index"), one.get("id"), _function(one)) for one in calls]
        ids.mend(known)
        for one, told in zip(calls, known, strict=True):
            one["index"] = told.index
            if told.id:
                one["id"], one["type"] = told.id, one.get("type") or "function"
            else:
                one.pop("id", None)

    def _finish_reason(self, index: int, given: str | None) -> str:
        if index in self._tool_calls and given in (None, "stop") and not self._names_its_tool:
            return "tool_calls"
        return given or "stop"

    def _usage(self) -> Members:
        """What the call has counted, with whatever else the server reported, as clients are told it."""
        reported = _decode(self._reported) if self._reported is not None else None
        members = reported if isinstance(reported, dict) else {}
        prompt, completion = self._call.prompt_tokens, self._call.completion_tokens
        usage = {**members, "prompt_tokens": prompt, "completion_tokens": completion}
        usage["total_tokens"] = number(members, "total_tokens") or prompt + completion
        return usage


def _function(call: Members) -> Function | None:
    function = call.get("function")
    return Function(function.get("name")) if function else None


class RawWhole(RawAnswer):
    """A whole answer: one object with choices, or with the data of embeddings. The call has been counted."""

    def read(self, data: bytes) -> Members:
        """As the client gets it, usage included. Raises UpstreamError."""
        members, choices = self._read(data)
        if choices:
            self._read_choices(data, members, choices)
            members["usage"] = self._usage()
        elif "data" in members:
            members["usage"] = self._usage()
            del members["usage"]["completion_tokens"]
        else:
            raise self._garbage(data)
        return members

    def _read_choices(self, data: bytes, members: Members, choices: list[Choice]) -> None:
        if b'"tool_calls"' in data or not all(map(self._is_sound, choices)):
            mended = members["choices"] = self._mended(data, members["choices"], self._mend)
            self._call.finish_reason = mended[0]["finish_reason"]

    def _is_sound(self, choice: Choice) -> bool:
        if choice.index is None or not choice.finish_reason:
            return False
        if not self._is_chat:
            return choice.text not in (NOTHING, NULL)
        if choice.message in (NOTHING, NULL):
            return False
        message = _message(choice.message)
        return message.content != NULL or message.refusal != NULL

    def _mend(self, choice: Members) -> None:
        index = choice["index"] = choice.get("index") or 0
        if self._is_chat:
            self._mend_message(index, choice)
        else:
            choice["text"] = choice.get("text") or ""
        choice["finish_reason"] = self._finish_reason(index, choice.get("finish_reason"))

    def _mend_message(self, index: int, choice: Members) -> None:
        message = choice["message"] = {"role": "assistant", "content": None, **(choice.get("message") or {})}
        calls = message.get("tool_calls")
        if calls:
            self._identify(index, calls)
            for one in calls:
                del one["index"]  # whole answers have none
        elif message["content"] is None and not message.get("refusal"):
            message["content"] = ""
