"""RunEvents → OpenAI's wire: chunks for a stream, one object for a whole answer. Both say the same words.

The agent's own tool calls and handoffs never appear as `tool_calls`: a client would try to execute them. Those of the
tools that the client brought do.
"""

from time import time
from typing import Any

from apps.core.errors import GatewayError
from apps.core.json import encode
from apps.execution.events import (
    ApprovalWanted,
    ClientToolCall,
    Finished,
    ReasoningDelta,
    RefusalDelta,
    RunEvent,
    TextDelta,
    Usage,
)
from apps.openai_api.approvals import request_text
from apps.openai_api.errors import error_body

DONE = b"data: [DONE]\n\n"


def failure_frame(error: GatewayError) -> bytes:
    """An error ends a stream: the official clients raise APIError for it, chat UIs show its message."""
    return b"data: " + encode(error_body(error)) + b"\n\n" + DONE


def usage_object(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


def _piece(event: ClientToolCall) -> dict[str, Any]:
    """Of a call in a stream; its identity comes with the first piece alone."""
    if event.id is None:
        return {"index": event.index, "function": {"arguments": event.arguments}}
    return {"index": event.index, **_whole_call(event, event.arguments)}


def _whole_call(first: ClientToolCall, arguments: str) -> dict[str, Any]:
    return {"id": first.id, "type": "function", "function": {"name": first.name, "arguments": arguments}}


class ChunkWriter:
    """Writes the frames of one answer. All but the text of a chunk is encoded once."""

    def __init__(self, *, id: str, model: str, with_usage: bool) -> None:
        self._with_usage = with_usage
        head = {"id": id, "object": "chat.completion.chunk", "created": int(time()), "model": model}
        self._head = b"data: " + encode(head)[:-1]
        self._delta = self._head + b',"choices":[{"index":0,"delta":'
        self._tail = b',"logprobs":null,"finish_reason":null}]' + (b',"usage":null' if with_usage else b"") + b"}\n\n"

    def opening(self) -> bytes:
        return self._frame({"role": "assistant", "content": ""})

    def frame(self, event: RunEvent) -> bytes:  # noqa: PLR0911  # a table
        """The frames for an event; empty for what clients are not told. Those of Finished end the stream."""
        if type(event) is TextDelta:
            return self._delta + b'{"content":' + encode(event.text) + b"}" + self._tail
        if type(event) is ReasoningDelta:
            return self._frame({"reasoning_content": event.text})
        if type(event) is RefusalDelta:
            return self._frame({"refusal": event.text})
        if type(event) is ClientToolCall:
            return self._frame({"tool_calls": [_piece(event)]})
        if type(event) is Finished:
            return self._ending(event)
        if type(event) is ApprovalWanted:
            return self._frame({"content": request_text(event)})
        return b""

    def failure(self, error: GatewayError) -> bytes:
        return failure_frame(error)

    def _frame(self, delta: dict[str, Any]) -> bytes:
        return self._delta + encode(delta) + self._tail

    def _ending(self, event: Finished) -> bytes:
        nulls = b',"usage":null' if self._with_usage else b""
        frames = self._delta + b'{},"logprobs":null,"finish_reason":' + encode(event.reason) + b"}]" + nulls + b"}\n\n"
        if self._with_usage:
            frames += self._head + b',"choices":[],"usage":' + encode(usage_object(event.usage)) + b"}\n\n"
        return frames + DONE


_NOT_YET = Finished("stop", Usage())


class Fold:
    """Collects the events of one answer into a `chat.completion`."""

    def __init__(self, *, id: str, model: str) -> None:
        self._id = id
        self._model = model
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._refusal: list[str] = []
        self._calls: dict[int, tuple[ClientToolCall, list[str]]] = {}  # the first piece, all arguments
        self._finished = _NOT_YET

    def add(self, event: RunEvent) -> None:
        match event:
            case TextDelta():
                self._text.append(event.text)
            case ReasoningDelta():
                self._reasoning.append(event.text)
            case RefusalDelta():
                self._refusal.append(event.text)
            case ClientToolCall():
                self._gather(event)
            case ApprovalWanted():
                self._text.append(request_text(event))
            case Finished():
                self._finished = event

    def _gather(self, event: ClientToolCall) -> None:
        if event.id is not None:
            self._calls[event.index] = (event, [])
        self._calls[event.index][1].append(event.arguments)

    def encoded(self) -> bytes:
        refusal = "".join(self._refusal) or None
        is_silent = (refusal or self._calls) and not self._text
        message: dict[str, Any] = {
            "role": "assistant",
            "content": None if is_silent else "".join(self._text),
            "refusal": refusal,
        }
        if self._calls:
            message["tool_calls"] = [_whole_call(first, "".join(pieces)) for first, pieces in self._calls.values()]
        if self._reasoning:
            message["reasoning_content"] = "".join(self._reasoning)
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": self._finished.reason}
        return encode(
            {
                "id": self._id,
                "object": "chat.completion",
                "created": int(time()),
                "model": self._model,
                "choices": [choice],
                "usage": usage_object(self._finished.usage),
            }
        )
