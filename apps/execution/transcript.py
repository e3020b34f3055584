"""SDK stream events → RunEvents: at most one for one, in order.

Both a run of ours and the runs that a workflow starts itself are read here, so both look the same to a client.
"""

import json
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import structlog
from agents import Agent, ItemHelpers
from agents.items import MessageOutputItem
from agents.stream_events import AgentUpdatedStreamEvent, RawResponsesStreamEvent, RunItemStreamEvent
from pydantic import BaseModel
from pydantic_core import PydanticSerializationError, to_jsonable_python

from apps.execution.events import (
    HandedOff,
    ReasoningDelta,
    RefusalDelta,
    RunEvent,
    TextDelta,
    ToolFinished,
    ToolStarted,
    UnderWay,
)
from apps.execution.forwarding import ForwardedEvent, RunBegan, RunEnded
from apps.upstreams.calls import CallLog

log = structlog.get_logger(__name__)

Events = AsyncGenerator[ForwardedEvent | UnderWay, None]

BETWEEN_MESSAGES = "\n\n"


class Transcript:
    """Reads one run's events. Text of an agent with output guardrails is held back until `release`."""

    def __init__(self, *, of_workflow: bool = False) -> None:
        """`of_workflow`: agents with an output type are its classifier nodes, and their JSON is not shown."""
        self._of_workflow = of_workflow
        self._told: list[str] = []  # by a workflow, whose return value may repeat it
        self._hidden = False
        self._holding = False
        self._run_is_held = False
        self._held: list[str] = []
        self._before_held = (False, 0)  # what had been told when holding began: any text, and how many pieces
        self._streamed: deque[bool] = deque()  # of each message of this turn: whether it has brought text
        self._message_begins = False
        self._any_text = False
        self._answered = False  # the newest text comes from a message, not from before a tool call

    @property
    def has_told(self) -> bool:
        return self._any_text

    def read(self, event: ForwardedEvent | UnderWay) -> RunEvent | None:
        if type(event) is RawResponsesStreamEvent:
            return self._raw(event.data)
        if type(event) is RunItemStreamEvent:
            return self._item(event)
        if type(event) is AgentUpdatedStreamEvent:
            return self._agent(event.new_agent)
        if type(event) is RunBegan:
            self._run_is_held = event.is_held
            return None
        if type(event) is RunEnded:
            return self._end_of_run(event)
        return event if type(event) is UnderWay else None

    def release(self) -> TextDelta | None:
        """The text that was held back, once the guardrails have passed it."""
        if not self._held:
            return None
        text = "".join(self._held)
        self._held.clear()
        return TextDelta(text)

    def final(self, output: Any) -> TextDelta | None:
        """The final output where no message told it: a tool's result that ends the run, a workflow's return value."""
        if output is None or output == "":
            return None
        text = as_text(output)
        if self._answered and (not self._of_workflow or text.strip() in "".join(self._told)):
            return None
        return self.say(text)

    def say(self, text: str) -> TextDelta | None:
        """A message of its own, whoever spoke before."""
        self._hidden = self._holding = False
        self._message_begins = True
        return self._text(text)

    def _raw(self, data: Any) -> RunEvent | None:
        kind = data.type
        if kind == "response.output_text.delta":
            if self._streamed:
                self._streamed[-1] = True
            return self._text(data.delta)
        if kind in ("response.reasoning_summary_text.delta", "response.reasoning_text.delta"):
            # Reasoning says what the answer will say, so that of a held answer is never told.
            return None if self._hidden or self._holding else ReasoningDelta(data.delta)
        if kind == "response.refusal.delta":
            return RefusalDelta(data.delta)
        if kind == "response.output_item.added" and data.item.type == "message":
            self._message_begins = True
            self._streamed.append(False)
        elif kind == "response.created":
            self._streamed.clear()
        return None

    def _text(self, text: str) -> TextDelta | None:
        if self._hidden or not text:
            return None
        if self._holding and not self._held:
            self._before_held = (self._any_text, len(self._told))
        if self._any_text and (self._message_begins or not self._answered):
            text = BETWEEN_MESSAGES + text
        self._message_begins = False
        self._any_text = self._answered = True
        if self._of_workflow:
            self._told.append(text)
        if self._holding:
            self._held.append(text)
            return None
        return TextDelta(text)

    def _item(self, event: RunItemStreamEvent) -> RunEvent | None:
        item: Any = event.item
        if event.name == "message_output_created":
            return self._whole_message(item)
        if event.name == "tool_called":
            raw = item.raw_item
            return ToolStarted(_of(raw, "call_id"), _of(raw, "name"), _of(raw, "arguments"))
        if event.name == "tool_output":
            self._answered = False
            return ToolFinished(_of(item.raw_item, "call_id"), as_text(item.output))
        if event.name == "handoff_occured":  # the SDK's spelling
            self._answered = False
            log.info("handoff_made", source=item.source_agent.name, target=item.target_agent.name)
            return HandedOff(item.source_agent.name, item.target_agent.name)
        return None

    def _whole_message(self, item: MessageOutputItem) -> TextDelta | None:
        """A message that was never streamed: the text of an error handler arrives only so."""
        if self._streamed and self._streamed.popleft():
            return None
        return self._text(ItemHelpers.text_message_output(item))

    def _agent(self, agent: Agent[Any]) -> TextDelta | None:
        """Another agent speaks. What its predecessor had to hold is not the final output, and is let go."""
        released = None if self._run_is_held else self.release()
        self._hidden = self._of_workflow and agent.output_type not in (None, str)
        self._holding = self._run_is_held or bool(agent.output_guardrails)
        return released

    def _end_of_run(self, event: RunEnded) -> TextDelta | None:
        """Of a run whose output a guardrail stopped, nothing that was held is told, whatever the workflow does next."""
        if not event.ended_well and self._held:
            self._held.clear()
            self._any_text, told = self._before_held
            del self._told[told:]
        self._hidden = self._holding = self._run_is_held = False
        return self.release()


async def told_by(transcript: Transcript, events: Events, calls: CallLog) -> AsyncGenerator[RunEvent, None]:
    """What the transcript makes of the SDK's events.

    Text that waits already is put into one event: a burst costs little more than a word. Nothing is held back: after
    every event, whether clients are told of it or not, the text so far leaves unless more waits.
    """
    text: list[str] = []
    async with aclosing(events):
        try:
            async for event in events:
                told = transcript.read(event)
                if type(told) is TextDelta:
                    text.append(told.text)
                    told = None
                if text and (told is not None or not calls.backlog()):
                    joined = TextDelta("".join(text))
                    text.clear()
                    yield joined
                if told is not None:
                    yield told
        except Exception:
            if text:
                yield TextDelta("".join(text))
            raise
    if text:
        yield TextDelta("".join(text))


def as_text(output: Any) -> str:
    """How a Python value reads to a person or a program: text as it is, everything else as JSON where it can be."""
    if isinstance(output, str):
        return output
    if isinstance(output, BaseModel):
        return output.model_dump_json()
    try:
        return json.dumps(to_jsonable_python(output, fallback=str), ensure_ascii=False)
    except (PydanticSerializationError, TypeError, ValueError):
        return str(output)


def _of(raw: Any, name: str) -> str:
    value = raw.get(name) if isinstance(raw, dict) else getattr(raw, name, None)
    return value if isinstance(value, str) else ""
