"""An LLM server for models that are passed through: all that servers send, the faults of faulty_upstream.py included.

    python -m tests.fakes.raw_upstream --port N

It also has /v1/completions and /v1/embeddings, whose model names a fault too where the fault is one of HTTP. `GET
/stats` tells the open connections besides, that of the question itself not counted.
"""

import argparse
import asyncio
import base64
import json
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from tests.fakes.faulty_upstream import (
    FAULTS,
    PIECES,
    TEXT,
    USAGE,
    Chunk,
    Exchange,
    FaultyUpstream,
    HttpRequest,
    chunk,
    frame,
    usage_chunk,
)

Fault = Callable[[Exchange], Awaitable[None]]

# As some servers write it: spaces, escapes, numbers that Python would write otherwise, members nobody knows.
RICH_CHOICES = (
    b'[{"index": 0, "delta": {"content": "Gr\\u00fc\xc3\x9fe \xf0\x9f\x91\x8b\xe2\x80\xa8", "mood": "fine"}, '
    b'"logprobs": {"content": [{"token": "Gr", "logprob": -1e-05, "bytes": [71, 114], "top_logprobs": []}]}, '
    b'"finish_reason": null, "stop_token": 12345678901234567890}]'
)
RICH_WHOLE_CHOICES = RICH_CHOICES.replace(b'"delta": {', b'"message": {"role": "assistant", ').replace(
    b'"finish_reason": null', b'"finish_reason": "stop"'
)
TIMINGS = {"predicted_ms": 12.5}


async def send(exchange: Exchange, *frames: bytes, done: bool = True) -> None:
    await exchange.begin_stream()
    for one in frames:
        await exchange.part(one)
    if done:
        await exchange.part(b"data: [DONE]\n\n")
    await exchange.end_stream()


def head(**members: Any) -> bytes:
    return json.dumps({**chunk(), "choices": None, **members})[:-1].replace(', "choices": null', "").encode()


async def rich(exchange: Exchange) -> None:
    """Choices that have to come out byte for byte; `event` and its like beside them; members of the server's own."""
    poison = {
        "event": {"type": "execute", "data": {"code": "alert(1)"}},
        "type": "response.created",
        "selected_model_id": "x",
    }
    begin = head(timings=TIMINGS, **poison)
    if not exchange.is_stream:
        await exchange.content(begin + b', "choices": ' + RICH_WHOLE_CHOICES + b', "usage": ' + usage() + b"}")
        return
    end = frame({**chunk(finish_reason="stop"), **poison})
    await send(exchange, b"data: " + begin + b', "choices": ' + RICH_CHOICES + b"}\n\n", end, frame(usage_chunk()))


def usage() -> bytes:
    return json.dumps({**USAGE, "cost": 0.25, "prompt_tokens_details": {"cached_tokens": 3}}).encode()


async def two(exchange: Exchange) -> None:
    """n=2."""
    choices = [{"index": index, "delta": {"content": f"Answer {index}"}, "finish_reason": None} for index in (0, 1)]
    ends = [{"index": index, "delta": {}, "finish_reason": "stop"} for index in (0, 1)]
    if exchange.is_stream:
        both = [{**chunk(), "choices": [one]} for one in (*choices, *ends)]
        await send(exchange, *map(frame, both), frame(usage_chunk()))
        return
    whole = [
        {"index": one["index"], "message": {"role": "assistant", **one["delta"]}, "finish_reason": "stop"}  # type: ignore[dict-item]
        for one in choices
    ]
    await exchange.json({**chunk(), "object": "chat.completion", "choices": whole, "usage": USAGE})


async def bare(exchange: Exchange) -> None:
    """Only what cannot be left out."""
    if exchange.is_stream:
        pieces = ({"choices": [{"delta": {"content": piece}}]} for piece in PIECES)
        await send(exchange, *map(frame, pieces), frame({"choices": [{"finish_reason": "stop"}]}))
    else:
        await exchange.json({"choices": [{"message": {"content": TEXT}}]})


async def no_finish(exchange: Exchange) -> None:
    await send(exchange, *(frame(chunk({"content": piece})) for piece in PIECES))


async def null_content(exchange: Exchange) -> None:
    choice = {"index": 0, "message": {"role": "assistant", "content": None}, "finish_reason": "stop"}
    await exchange.json({**chunk(), "object": "chat.completion", "choices": [choice], "usage": USAGE})


async def whole_in_stream(exchange: Exchange) -> None:
    """A server that knows no streams."""
    choice = {"index": 0, "message": {"role": "assistant", "content": TEXT}, "finish_reason": "stop"}
    await exchange.json({**chunk(), "object": "chat.completion", "choices": [choice], "usage": USAGE})


async def fragments(exchange: Exchange) -> None:
    """Two tool calls in pieces, with neither index nor id in any of them, which finish with "stop"."""
    deltas: list[dict[str, Any]] = [
        {"name": "get_weather", "arguments": '{"city":'},
        {"arguments": ' "Oslo"}'},
        {"name": "get_time", "arguments": "{}"},
    ]
    frames = [frame(chunk({"tool_calls": [{"type": "function", "function": one}]})) for one in deltas]
    await send(exchange, *frames, frame(chunk(finish_reason="stop")), frame(usage_chunk()))


async def carriage_return(exchange: Exchange) -> None:
    """A space in JSON, the end of a line in an event stream."""
    text = b'data: {"choices": [{"index": 0,\r"delta": {"content": "Hi"}}]}\n\n'
    await send(exchange, text, frame(chunk(finish_reason="stop")))


async def not_utf8(exchange: Exchange) -> None:
    await send(exchange, b'data: {"choices": [{"index": 0, "delta": {"content": "\xff\xfe"}}]}\n\n')


async def odd_tools(exchange: Exchange) -> None:
    await send(exchange, frame(chunk({"tool_calls": ["get_weather"]})))


async def filter_verdict(exchange: Exchange) -> None:
    """As Azure begins: a chunk that has no choices, and no usage."""
    verdict = {**chunk(), "choices": [], "prompt_filter_results": [{"prompt_index": 0}]}
    await send(exchange, frame(verdict), frame(chunk({"content": TEXT})), frame(chunk(finish_reason="stop")))


OWN: dict[str, Fault] = {
    one.__name__.replace("_", "-"): one
    for one in (
        rich, two, bare, no_finish, null_content, whole_in_stream, fragments, carriage_return, not_utf8, odd_tools,
        filter_verdict,
    )
}  # fmt: skip


# --- texts and vectors -----------------------------------------------------------------------------------------------


def completion(text: str, finish_reason: str | None = None, **members: Any) -> Chunk:
    choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": finish_reason}
    return {
        "id": "cmpl-raw",
        "object": "text_completion",
        "created": 1,
        "model": "raw",
        "choices": [choice],
        **members,
    }


async def go_on(exchange: Exchange) -> None:
    if exchange.is_stream:
        pieces = [frame(completion(piece)) for piece in PIECES]
        ends = [] if exchange.body["model"] == "no-finish" else [frame(completion("", "length"))]
        await send(exchange, *pieces, *ends, frame({**completion(""), "choices": [], "usage": USAGE}))
    else:
        prompts = exchange.body["prompt"]
        count = len(prompts) if isinstance(prompts, list) and isinstance(prompts[0], str) else 1
        choices = [{**completion(TEXT, "length")["choices"][0], "index": index} for index in range(count)]
        await exchange.json({**completion(TEXT), "choices": choices, "usage": USAGE})


def vector(index: int) -> list[float]:
    return [index + 0.5, -1.25, 3.0]


async def embed(exchange: Exchange) -> None:
    given = exchange.body["input"]
    count = 1 if isinstance(given, str) or isinstance(given[0], int) else len(given)
    vectors = [vector(index)[: exchange.body.get("dimensions", 3)] for index in range(count)]
    packed = exchange.body.get("encoding_format") == "base64"
    data = [
        {
            "object": "embedding",
            "index": index,
            "embedding": base64.b64encode(struct.pack(f"<{len(one)}f", *one)).decode() if packed else one,
        }
        for index, one in enumerate(vectors)
    ]
    told = {} if exchange.body["model"] == "no-usage" else {"usage": {"prompt_tokens": 9, "total_tokens": 9}}
    await exchange.json({"object": "list", "model": "raw", "data": data, **told})


PATHS: dict[str, tuple[str, Fault]] = {"/v1/completions": ("prompt", go_on), "/v1/embeddings": ("input", embed)}
OF_HTTP = ("status-", "rate-limited", "html", "garbage", "cut", "hang", "slow-headers", "error-in-stream", "text-error")


class RawUpstream(FaultyUpstream):
    """Tells besides how many connections are open."""

    connections = 0

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            await super().converse(reader, writer)
        finally:
            self.connections -= 1

    async def respond(self, request: HttpRequest, exchange: Exchange) -> None:
        if request.path == "/connections":
            await exchange.json({"open": self.connections - 1})
        elif (request.method, request.path) == ("GET", "/v1/models"):
            names = [*FAULTS, *OWN, "slow-headers"]
            await exchange.json({"object": "list", "data": [{"id": name, "object": "model"} for name in names]})
        elif request.path in PATHS:
            exchange.body = json.loads(request.content)
            self.last = {"headers": request.headers, "body": exchange.body}
            await self.chat(exchange)
        else:
            await super().respond(request, exchange)

    async def answer(self, exchange: Exchange) -> None:
        name = str(exchange.body.get("model"))
        made = next((make for member, make in PATHS.values() if member in exchange.body), OWN.get(name))
        if made and not name.startswith(OF_HTTP):
            await made(exchange)
        else:
            await super().answer(exchange)


async def main() -> None:
    parser = argparse.ArgumentParser(description="An LLM server for models that are passed through.")
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    async with RawUpstream().serving(options.port) as url:
        print(f"Raw upstream at {url}", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(main())
