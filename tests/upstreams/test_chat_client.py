"""What the SDK is handed of an upstream's chunks, read by read."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import openai
import pytest

from apps.upstreams.calls import CallLog, ModelCall
from apps.upstreams.chat_stream import Chunk, ChunkStream
from apps.upstreams.road import Opened
from apps.upstreams.stock_client import as_openai
from tests.upstreams.test_routing import LOCAL

TEXT = {"content": "a"}
LOGPROBS = {"content": [{"token": "a", "logprob": -0.1, "bytes": None, "top_logprobs": []}]}


class Reads:
    """An upstream's answer whose events came in these reads."""

    is_complete = True

    def __init__(self, *reads: list[bytes]) -> None:
        self._reads = reads

    async def __aiter__(self) -> AsyncIterator[list[bytes]]:
        for read in self._reads:
            yield read

    async def aclose(self) -> None:
        return


def event(*deltas: dict[str, Any], **choice: Any) -> bytes:
    return msgspec.json.encode({"choices": [{"index": at, "delta": one, **choice} for at, one in enumerate(deltas)]})


def stream(*reads: list[bytes], log: CallLog | None, call: ModelCall | None = None) -> ChunkStream:
    body: dict[str, Any] = {"messages": [{"role": "user", "content": "Hi"}]}
    return ChunkStream(Opened(LOCAL, call or ModelCall("local", "llama"), Reads(*reads), body), log, error_of=as_openai)


def texts(chunks: list[Chunk]) -> list[str | None]:
    return [choice.delta and choice.delta.content for chunk in chunks for choice in chunk.choices or ()]


def read_all(chunks: ChunkStream) -> list[Chunk]:
    async def read() -> list[Chunk]:
        return [chunk async for chunk in chunks]

    return asyncio.run(read())


def test_text_of_one_read_is_one_chunk_of_a_run_and_the_next_read_another() -> None:
    reads = [event({"role": "assistant", "content": "a"}), event({"content": "b"})], [event({"content": "c"})]

    assert texts(read_all(stream(*reads, log=CallLog()))) == ["ab", "c"]


def test_whoever_calls_outside_of_a_run_gets_the_servers_own_chunks() -> None:
    assert texts(read_all(stream([event({"content": "a"}), event({"content": "b"})], log=None))) == ["a", "b"]


@pytest.mark.parametrize(
    "other",
    [
        event({"role": "assistant", "content": ""}),
        event({}),
        event(TEXT, finish_reason="length"),
        event(TEXT, logprobs=LOGPROBS),
        event(TEXT, TEXT),
        event({**TEXT, "reasoning_content": "hm"}),
        event({**TEXT, "reasoning": "hm"}),
        event({**TEXT, "refusal": "no"}),
        event({**TEXT, "annotations": [{"type": "url_citation"}]}),
        event({"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": ""}}]}),
    ],
)
def test_chunk_with_more_than_text_is_handed_on_as_it_is_and_in_its_place(other: bytes) -> None:
    text = event(TEXT)
    first, second, *rest = read_all(stream([text, text, other, text, text], log=CallLog()))

    assert (texts([first]), texts(rest)) == (["aa"], ["aa"])
    assert [second] == read_all(stream([other], log=None))


def test_text_before_what_cannot_be_read_is_handed_on() -> None:
    chunks = stream([event(TEXT), event(TEXT), b"{not JSON"], log=CallLog())
    seen: list[Chunk] = []

    async def read() -> None:
        async for chunk in chunks:
            seen.append(chunk)  # noqa: PERF401  # what was seen before the error counts

    with pytest.raises(openai.InternalServerError):
        asyncio.run(read())

    assert texts(seen) == ["aa"]


def test_tokens_are_estimated_by_the_servers_own_chunks() -> None:
    call = ModelCall("local", "llama")

    read_all(stream([event(TEXT)] * 3, log=CallLog(), call=call))

    assert (call.completion_tokens, call.estimated) == (3, True)
