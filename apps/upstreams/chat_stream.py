"""The answer of a chat completion as it streams in: sound chunks, whichever server they come from.

msgspec structs with the attribute names of the stock openai client's pydantic chunks, whose building takes 70 % of that
client's time. Here is what every model call of a run passes: tool-call ids, usage, the true finish reason.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from typing import Any
from uuid import uuid4

import msgspec
from openai.types.chat import chat_completion_chunk
from openai.types.completion_usage import CompletionTokensDetails, CompletionUsage, PromptTokensDetails

from apps.core.errors import GatewayError, UpstreamError, UpstreamUnreachable
from apps.core.json import UNREADABLE
from apps.upstreams.calls import CallLog, number, text_may_join
from apps.upstreams.hearing import hear_said
from apps.upstreams.refusals import failure
from apps.upstreams.road import Answered, Opened
from apps.upstreams.routing import Target

ErrorOf = Callable[[GatewayError, Target], Exception]


class Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class ToolCall(msgspec.Struct):
    index: int | None = None
    id: str | None = None
    function: Function | None = None
    type: str | None = None


class Delta(msgspec.Struct):
    role: str | None = None
    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[ToolCall] | None = None
    annotations: Any = None
    thinking_blocks: Any = None


class Choice(msgspec.Struct):
    delta: Delta | None = None
    message: Delta | None = None  # of a server that answers whole although a stream was asked for
    finish_reason: str | None = None
    index: int = 0
    logprobs: Any = None


class Chunk(msgspec.Struct):
    choices: list[Choice] | None = None
    usage: Any = None  # a dict as it comes, a CompletionUsage as it is handed on
    error: Any = None


_decode = msgspec.json.Decoder(Chunk).decode


class ChunkStream:
    """An async iterator of chunks with `aclose()`. Raises UpstreamError, or what `error_of` makes of it."""

    def __init__(self, opened: Opened, log: CallLog | None = None, *, error_of: ErrorOf | None = None) -> None:
        self._opened = opened
        self._target = opened.target
        self._call = opened.call
        self._log = log
        self._source = opened.source
        self._body = opened.body
        self._error_of = error_of
        self._tool_calls = ToolCallIds(opened.body["messages"])
        self._reported: dict[str, Any] | None = None  # usage
        self._received = 0
        self._joins_text = log is not None and text_may_join.get()
        self._generator = self._chunks()

    def __aiter__(self) -> AsyncIterator[Chunk]:
        return self._generator

    async def aclose(self) -> None:
        """Ends the connection, whether or not the iteration has begun."""
        try:
            await self._generator.aclose()
        finally:
            await self._source.aclose()

    async def _chunks(self) -> AsyncGenerator[Chunk, None]:
        try:
            async for events in self._source:
                chunks = self._read(events)
                if self._log is not None:
                    await self._log.wait_for_reader()
                if self._joins_text and len(events) > 1:
                    # Whoever reads a run joins what waits (told_by): the SDK need not carry each piece by itself.
                    chunks = joined(chunks)
                for chunk in chunks:
                    yield chunk
            if self._call.finish_reason is None and not self._source.is_complete:
                raise self._opened.broken(
                    UpstreamUnreachable(
                        f"Upstream '{self._target.slug}' ended its answer without finishing it.", code="upstream_cut"
                    )
                )
            if self._reported:
                yield Chunk(choices=[], usage=_usage(self._reported))
        except GatewayError as error:
            self._call.end(error)
            if self._error_of is None:
                raise
            raise self._error_of(error, self._target) from error
        finally:
            self._count()

    def _read(self, events: list[bytes]) -> Iterator[Chunk]:
        """The chunks that are handed on; usage comes on the last one, or with running totals on every one."""
        for data in events:
            chunk = self._parse(data)
            if isinstance(chunk.usage, dict):
                self._reported, chunk.usage = chunk.usage, None
            if chunk.choices:
                self._mend(chunk.choices[0])
                self._received += 1
                yield chunk

    def _parse(self, data: bytes) -> Chunk:
        try:
            chunk = _decode(data)
        except UNREADABLE as error:
            raise self._opened.broken(
                UpstreamError(
                    f"Upstream '{self._target.slug}' sent something that is not a chat completion chunk: {data[:80]!r}",
                    code="upstream_garbage",
                )
            ) from error
        if chunk.error:
            raise self._opened.broken(failure(self._target, {"error": chunk.error}))
        return chunk

    def _mend(self, choice: Choice) -> None:
        choice.delta = choice.delta or choice.message
        if choice.finish_reason:
            self._call.finish_reason = choice.finish_reason
        if choice.delta is not None and self._call.heard:
            hear_said(self._call.heard, choice.delta)
        if choice.logprobs is not None:
            known = isinstance(choice.logprobs, dict)
            choice.logprobs = chat_completion_chunk.ChoiceLogprobs.construct(**choice.logprobs) if known else None
        if choice.delta is not None and choice.delta.tool_calls:
            self._tool_calls.mend(choice.delta.tool_calls)

    def _count(self) -> None:
        self._call.end()
        if self._reported:
            self._call.report(self._reported)
        else:
            self._call.estimate(self._body["messages"], self._received)


def whole_chunk(answered: Answered, messages: list[dict[str, Any]]) -> Chunk:
    """A whole answer as the one chunk of a stream, as sound as those. Raises UpstreamError."""
    slug = answered.target.slug
    try:
        chunk = _decode(answered.data)
    except UNREADABLE as error:
        raise UpstreamError(
            f"Upstream '{slug}' sent an answer of another shape: {error}", code="upstream_garbage"
        ) from error
    if not chunk.choices:
        raise UpstreamError(f"Upstream '{slug}' sent an answer without choices.", code="upstream_garbage")
    choice = chunk.choices[0]
    choice.delta = choice.message or choice.delta
    if choice.delta is not None and choice.delta.tool_calls:
        ToolCallIds(messages).mend(choice.delta.tool_calls)
    return chunk


def joined(chunks: Iterator[Chunk]) -> Iterator[Chunk]:
    """The same chunks, but of neighbours that bring nothing but text one. An error comes after the text before it."""
    text: list[str] = []
    try:
        for chunk in chunks:
            if said := _text_alone(chunk):
                text.append(said)
                continue
            if text:
                yield _chunk_of(text)
                text = []
            yield chunk
    except GatewayError:
        if text:
            yield _chunk_of(text)
        raise
    if text:
        yield _chunk_of(text)


def _text_alone(chunk: Chunk) -> str | None:
    """The text of a chunk that has nothing else to say; the role, which some servers repeat, says nothing new."""
    delta = chunk.choices[0].delta if chunk.choices else None
    if delta is None or chunk != Chunk([Choice(Delta(delta.role, delta.content))]):
        return None
    return delta.content


def _chunk_of(text: list[str]) -> Chunk:
    return Chunk([Choice(Delta(content="".join(text)))])


class ToolCallIds:
    """Ids and indexes for tool calls: some servers leave them out, some use the same ones in every answer.

    The SDK tells calls apart by id over the whole conversation: a repeated one overwrites history, an empty one fails.
    """

    def __init__(self, messages: list[dict[str, Any]]) -> None:
        self._messages = messages
        self._taken: set[str] | None = None
        self._ids: dict[int, str] = {}
        self._last = -1

    def mend(self, deltas: list[ToolCall]) -> None:
        for delta in deltas:
            if delta.index is None:
                begins = bool(delta.id) or bool(delta.function and delta.function.name)
                delta.index = self._last + 1 if begins or self._last < 0 else self._last
            self._last = max(self._last, delta.index)
            if delta.index in self._ids:
                delta.id = None  # told once; a second telling would be a second id
            else:
                delta.id = self._ids[delta.index] = self._unique(delta.id)

    def _unique(self, given: str | None) -> str:
        if self._taken is None:
            self._taken = {
                call["id"] for message in self._messages for call in message.get("tool_calls") or () if call.get("id")
            }
        if not given or given in self._taken:
            given = f"call_{uuid4().hex}"
        self._taken.add(given)
        return given


def _usage(reported: dict[str, Any]) -> CompletionUsage:
    """Servers leave members out or say null; the SDK wants numbers."""
    prompt, completion = number(reported, "prompt_tokens"), number(reported, "completion_tokens")
    details = reported.get("prompt_tokens_details"), reported.get("completion_tokens_details")
    return CompletionUsage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=number(reported, "total_tokens") or prompt + completion,
        prompt_tokens_details=PromptTokensDetails(cached_tokens=number(details[0], "cached_tokens")),
        completion_tokens_details=CompletionTokensDetails(reasoning_tokens=number(details[1], "reasoning_tokens")),
    )
