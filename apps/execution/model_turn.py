"""One answer of a model, read chunk by chunk: what is told at once, and the tool calls that come in pieces."""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from apps.execution.events import ClientToolCall, FinishReason, ReasoningDelta, RefusalDelta, RunEvent, TextDelta
from apps.execution.open_turns import call_id
from apps.execution.transcript import BETWEEN_MESSAGES
from apps.upstreams.chat_stream import Chunk, ToolCall

_CUT: Final = ("length", "content_filter")


@dataclass(slots=True)
class Call:
    """A tool call. `arguments` are JSON text as the model wrote them; `number` counts the client's calls from 0."""

    id: str
    name: str = ""
    arguments: str = ""
    number: int | None = None

    def as_message_part(self) -> dict[str, Any]:
        arguments = self.arguments if _is_object(self.arguments) else json.dumps({"unreadable": self.arguments})
        return {"id": self.id, "type": "function", "function": {"name": self.name, "arguments": arguments}}


@dataclass(slots=True)
class _Gathering:
    call: Call
    pieces: list[str] = field(default_factory=list)


class Turn:
    """`client_tools` are the names of those whose calls go out, with ids made of `reference` where there is one.

    `follows_text`: the client has been told something before. `is_draft`: its text is not told.
    """

    def __init__(
        self,
        client_tools: Collection[str] = (),
        *,
        reference: str = "",
        follows_text: bool = False,
        is_draft: bool = False,
    ) -> None:
        self._client_tools = client_tools
        self.reference = reference
        self._follows_text = follows_text
        self.is_draft = is_draft
        self._text: list[str] = []
        self._gathered: dict[int, _Gathering] = {}
        self._sent = 0  # calls of the client's
        self._finish_reason: str | None = None
        self.has_refused = False

    def read(self, chunk: Chunk) -> Sequence[RunEvent]:
        """What is told of it."""
        if not chunk.choices:
            return ()
        choice = chunk.choices[0]
        self._finish_reason = choice.finish_reason or self._finish_reason
        delta, told = choice.delta, list[RunEvent]()
        if delta is None:
            return told
        if reasoning := delta.reasoning_content or delta.reasoning:
            told.append(ReasoningDelta(reasoning))
        if delta.content:
            told.extend(self._say(delta.content))
        if delta.refusal:
            self.has_refused = True
            told.append(RefusalDelta(delta.refusal))
        for piece in delta.tool_calls or ():
            told.extend(self._gather(piece))
        return told

    def _say(self, text: str) -> Sequence[TextDelta]:
        begins = not self._text
        self._text.append(text)
        if self.is_draft:
            return ()
        return (TextDelta(BETWEEN_MESSAGES + text if begins and self._follows_text else text),)

    def _gather(self, piece: ToolCall) -> Sequence[ClientToolCall]:
        index = piece.index or 0
        if index not in self._gathered:
            self._gathered[index] = _Gathering(Call(piece.id or ""))
        gathering = self._gathered[index]
        call, function = gathering.call, piece.function
        arguments = (function.arguments if function else None) or ""
        gathering.pieces.append(arguments)
        if function and function.name and not call.name:
            call.name = function.name
            return self._begun(gathering) if call.name in self._client_tools else ()
        if call.number is None or not arguments:
            return ()
        return (ClientToolCall(call.number, None, None, arguments),)

    def _begun(self, gathering: _Gathering) -> Sequence[ClientToolCall]:
        call = gathering.call
        call.number = self._sent
        self._sent += 1
        if self.reference:
            call.id = call_id(self.reference, call.number)
        return (ClientToolCall(call.number, call.id, call.name, "".join(gathering.pieces)),)

    @property
    def has_told_text(self) -> bool:
        return self._follows_text or bool(self._text and not self.is_draft)

    @property
    def calls_client(self) -> bool:
        return self._sent > 0

    @property
    def finish_reason(self) -> FinishReason:
        """`length` and `content_filter` as the server says; its word about tool calls counts less than the calls."""
        return self._finish_reason if self._finish_reason in _CUT else "stop"  # type: ignore[return-value]

    @property
    def is_answer(self) -> bool:
        """The model is done, of its own will."""
        return not self.calls() and self.finish_reason == "stop" and not self.has_refused

    @property
    def was_withheld(self) -> bool:
        """A filter let nothing through."""
        return self._finish_reason == "content_filter" and not self._text

    def calls(self) -> list[Call]:
        """Whole, in the order of their indexes. None of an answer that was cut: its last one may lack its end."""
        if self._finish_reason in _CUT:
            return []
        for gathering in self._gathered.values():
            gathering.call.arguments = "".join(gathering.pieces) or "{}"
        return [self._gathered[index].call for index in sorted(self._gathered)]

    def message(self) -> dict[str, Any]:
        """As the next request tells the model of it."""
        calls = [call.as_message_part() for call in self.calls()]
        return {"role": "assistant", "content": "".join(self._text) or None, "tool_calls": calls}


def _is_object(text: str) -> bool:
    """Servers refuse a history with arguments that are none."""
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False
