"""What a run tells while it goes on. Every way of running yields these, every renderer reads them."""

from typing import Any, Literal

import msgspec

FinishReason = Literal["stop", "length", "content_filter", "tool_calls"]


class Usage(msgspec.Struct, frozen=True):
    """Tokens of all model calls of the run. `estimated` when at least one call's tokens had to be guessed."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    model_calls: int = 0
    estimated: bool = False


class RunEvent(msgspec.Struct, frozen=True, gc=False):
    """The base of all events."""


class UnderWay(RunEvent, frozen=True):
    """A second has passed, perhaps with nothing to tell. A renderer that waited for a failure waits no longer."""


class TextDelta(RunEvent, frozen=True, gc=False):
    text: str


class ReasoningDelta(RunEvent, frozen=True, gc=False):
    text: str


class RefusalDelta(RunEvent, frozen=True, gc=False):
    """The model declined; the text is its reason."""

    text: str


class ToolStarted(RunEvent, frozen=True):
    call_id: str
    name: str
    arguments: str


class ToolFinished(RunEvent, frozen=True):
    call_id: str
    output: str


class HandedOff(RunEvent, frozen=True):
    source: str
    target: str


class ClientToolCall(RunEvent, frozen=True):
    """A piece of a call of a tool that the client runs itself. `index` numbers the calls of the answer from 0; the id
    and name come with the first piece, the arguments (JSON text) in as many as the server sent."""

    index: int
    id: str | None
    name: str | None
    arguments: str


class Forwarded(RunEvent, frozen=True, gc=False):
    """What a server sent, as it came: the chunks of a stream that were there at once, or one whole answer.

    Of each object the members; values are raw JSON (msgspec.Raw), Python's where they had to be mended.
    """

    objects: list[dict[str, Any]]


class WantedCall(msgspec.Struct, frozen=True):
    """A tool call that waits for a person. `arguments` are JSON text as the model wrote them."""

    name: str
    arguments: str


class ApprovalWanted(RunEvent, frozen=True):
    """The run ends here and goes on when a later request decides about `reference`."""

    reference: str
    calls: tuple[WantedCall, ...]
    follows_text: bool  # the client has been told something before


class Finished(RunEvent, frozen=True):
    """The last event of a run that was not cut short by an error."""

    reason: FinishReason
    usage: Usage
    refused: bool = False  # a guardrail, a filter or the model declined
