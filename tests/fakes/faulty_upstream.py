"""An LLM server that misbehaves on demand: the request's model names the fault.

    python -m tests.fakes.faulty_upstream --port N

One server serves all faults, streamed and whole; `GET /v1/models` lists them, FAULTS below describes each. Many live
below HTTP (a connection cut in mid-chunk, a character split over two TCP segments), so it speaks HTTP/1.1 by hand.

`GET /stats` tells {active, started, finished, cancelled, requests} as the demo upstream does: an answer is cancelled
when the client left before its end; and {connections}, those that are open, the asker's among them.
`GET /last` is the last chat request, {"headers": {...}, "body": {...}}.
"""

import argparse
import asyncio
import json
import re
import socket
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http import HTTPStatus
from typing import Any

from apps.upstreams.demo import Hints, fitting

Chunk = dict[str, Any]

PIECES = ("Hello", " from", " the", " faulty", " upstream.")
TEXT = "".join(PIECES)
EMOJI_TEXT = "Family 👨‍👩‍👧 and flag 🇳🇴."
LINE_SEPARATOR_TEXT = "before\u2028between\u2029after\x85end"
FLOOD = 2_000
BIG = 5_000_000
USAGE = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}


class ClientGone(Exception):
    """The client closed its connection before it had the whole answer."""


class Dropped(Exception):
    """The fault is that the connection ends here."""


# --- what is said: faults in the answer itself -----------------------------------------------------------------------


def chunk(delta: dict[str, Any] | None = None, finish_reason: str | None = None, **more: Any) -> Chunk:
    head = {"id": "chatcmpl-faulty", "object": "chat.completion.chunk", "created": 1_763_596_800, "model": "faulty"}
    return {**head, "choices": [{"index": 0, "delta": delta or {}, "finish_reason": finish_reason}], **more}


def usage_chunk() -> Chunk:
    return {**chunk(), "choices": [], "usage": USAGE}


def said(*pieces: str, finish_reason: str = "stop", name: str = "content") -> Iterator[Chunk]:
    yield chunk({"role": "assistant", "content": ""})
    for piece in pieces:
        yield chunk({name: piece})
    yield chunk(finish_reason=finish_reason)


def thought(name: str) -> Iterator[Chunk]:
    yield chunk({"role": "assistant", "content": ""})
    yield from (chunk({name: piece}) for piece in ("Let me", " think."))
    yield from (chunk({"content": piece}) for piece in PIECES)
    yield chunk(finish_reason="stop")


def with_usage_everywhere() -> Iterator[Chunk]:
    for number, one in enumerate(said(*PIECES)):
        yield {
            **one,
            "usage": {"prompt_tokens": 7, "completion_tokens": min(number, 5), "total_tokens": 7 + min(number, 5)},
        }


def rounds_of_tools(body: dict[str, Any]) -> int:
    """How often tools have been called since the last user message."""
    roles = [message["role"] for message in body["messages"]]
    last_user = max((index for index, role in enumerate(roles) if role == "user"), default=-1)
    return sum(bool(message.get("tool_calls")) for message in body["messages"][last_user + 1 :])


def tool_functions(body: dict[str, Any], most: int = 1) -> list[dict[str, str]]:
    """Calls of the first tools offered, with arguments that fit; of `get_weather` when none is."""
    offered = [tool["function"] for tool in body.get("tools") or ()][:most]
    hints = Hints.from_text("Oslo")
    made = [{"name": one["name"], "arguments": json.dumps(fitting(one.get("parameters"), hints))} for one in offered]
    return made or [{"name": "get_weather", "arguments": '{"city": "Oslo"}'}]


def tool_fragments(body: dict[str, Any]) -> Iterator[Chunk]:
    """Two calls in pieces, which neither an id nor an index holds together."""
    if rounds_of_tools(body):
        yield from said(*PIECES)
        return
    yield chunk({"role": "assistant", "content": None})
    for function in tool_functions(body, most=2):
        yield chunk({"tool_calls": [{"type": "function", "function": {**function, "arguments": ""}}]})
        for piece in re.findall(".{1,5}", function["arguments"]):
            yield chunk({"tool_calls": [{"function": {"arguments": piece}}]})
    yield chunk(finish_reason="tool_calls")


def tool_calls(
    body: dict[str, Any], *, rounds: int = 1, most: int = 1, finish_reason: str = "tool_calls", **identity: Any
) -> Iterator[Chunk]:
    """Tool calls for the first rounds of a turn, then text; `identity` is what a call has besides its function."""
    if rounds_of_tools(body) >= rounds:
        yield from said(*PIECES)
        return
    yield chunk({"role": "assistant", "content": None})
    for function in tool_functions(body, most):
        yield chunk({"tool_calls": [{**identity, "type": "function", "function": function}]})
    yield chunk(finish_reason=finish_reason)


SAYINGS: dict[str, Callable[[dict[str, Any]], Iterator[Chunk]]] = {
    "tool-no-id": lambda body: tool_calls(body, most=2),
    "tool-fragments": tool_fragments,
    "tool-repeated-ids": lambda body: tool_calls(body, rounds=2, index=0, id="call_0"),
    "stop-with-tools": lambda body: tool_calls(body, finish_reason="stop", index=0, id="call_stop"),
    "usage-every-chunk": lambda _: with_usage_everywhere(),
    "reasoning": lambda _: thought("reasoning"),
    "reasoning-content": lambda _: thought("reasoning_content"),
    "length": lambda _: said(*PIECES, finish_reason="length"),
    "content-filter": lambda _: said(PIECES[0], finish_reason="content_filter"),
    "refusal": lambda _: said("I cannot", " do that.", name="refusal"),
    "empty": lambda _: said(),
    "flood": lambda _: said(*["x"] * FLOOD),
    "big-chunk": lambda _: said("x" * BIG),
    "u2028": lambda _: said(LINE_SEPARATOR_TEXT),
    "split-utf8": lambda _: said(EMOJI_TEXT),
}


def chunks_of(body: dict[str, Any]) -> list[Chunk]:
    """All chunks of the answer, as a sane server would send them."""
    fault = body["model"]
    made = list(SAYINGS[fault](body) if fault in SAYINGS else said(*PIECES))
    wants_usage = (body.get("stream_options") or {}).get("include_usage") or not body.get("stream")
    if wants_usage and fault not in ("no-usage", "usage-every-chunk"):
        made.append(usage_chunk())
    return made


def whole(chunks: list[Chunk]) -> dict[str, Any]:
    """The chunks as one chat.completion."""
    message: dict[str, Any] = {"role": "assistant", "content": None}
    finish_reason = None
    for choice in (choice for one in chunks for choice in one["choices"]):
        finish_reason = choice["finish_reason"] or finish_reason
        for name, value in choice["delta"].items():
            if name == "tool_calls":
                message[name] = [
                    *message.get(name, ()),
                    *({k: v for k, v in call.items() if k != "index"} for call in value),
                ]
            elif name != "role" and value is not None:
                message[name] = (message.get(name) or "") + value
    usage = {"usage": chunks[-1]["usage"]} if "usage" in chunks[-1] else {}
    choices = [{"index": 0, "message": message, "finish_reason": finish_reason}]
    return {**chunk(), "object": "chat.completion", "choices": choices, **usage}


# --- HTTP by hand ----------------------------------------------------------------------------------------------------


@dataclass
class HttpRequest:
    method: str
    path: str
    headers: dict[str, str]
    content: bytes


async def read_request(reader: asyncio.StreamReader) -> HttpRequest | None:
    """The next request of a connection, None when there is no more. Bodies need a content-length."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        return None
    request_line, *lines = head.rstrip("\r\n").split("\r\n")
    method, path, _ = request_line.split(" ", 2)
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    content = await reader.readexactly(int(headers.get("content-length", 0)))
    return HttpRequest(method, path.partition("?")[0], headers, content)


@dataclass
class Exchange:
    """One request being answered: a small vocabulary to answer it well or badly."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    body: dict[str, Any] = field(default_factory=dict)
    turn: int = 0  # how many chat requests for this model came before

    @property
    def is_stream(self) -> bool:
        return bool(self.body.get("stream"))

    async def write(self, data: bytes) -> None:
        """Raises ClientGone."""
        try:
            self.writer.write(data)
            await self.writer.drain()
        except ConnectionError as error:
            raise ClientGone from error

    async def head(self, status: int = 200, **headers: Any) -> None:
        lines = [
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
            *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items()),
        ]
        await self.write(("\r\n".join(lines) + "\r\n\r\n").encode())

    async def content(
        self, content: bytes, status: int = 200, kind: str = "application/json", **headers: str | int
    ) -> None:
        await self.head(status, content_type=kind, content_length=len(content), **headers)
        await self.write(content)

    async def json(self, answer: dict[str, Any], status: int = 200, **headers: Any) -> None:
        await self.content(json.dumps(answer, ensure_ascii=False).encode(), status, **headers)

    async def begin_stream(self, **headers: Any) -> None:
        await self.head(content_type="text/event-stream", transfer_encoding="chunked", **headers)

    async def part(self, data: bytes) -> None:
        """One HTTP chunk."""
        await self.write(b"%x\r\n%s\r\n" % (len(data), data))

    async def end_stream(self) -> None:
        await self.write(b"0\r\n\r\n")

    async def wait(self, seconds: float | None) -> None:
        """Waits, for ever when None. Raises ClientGone as soon as the client has left."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.reader.read(1)  # no client sends more before it has its answer: this is the end
                raise ClientGone


def frame(one: Chunk) -> bytes:
    return b"data: " + json.dumps(one, ensure_ascii=False).encode() + b"\n\n"


def openai_error(message: str, kind: str = "server_error", code: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


# --- how it is sent: faults of the server and the wire ---------------------------------------------------------------


async def properly(exchange: Exchange) -> None:
    chunks = chunks_of(exchange.body)
    if not exchange.is_stream:
        await exchange.json(whole(chunks))
        return
    await exchange.begin_stream()
    for one in chunks:
        await exchange.part(frame(one))
    await exchange.part(b"data: [DONE]\n\n")
    await exchange.end_stream()


async def some(exchange: Exchange, contents: int = 3) -> None:
    """The beginning of a stream: the role, and three pieces of content."""
    await exchange.begin_stream()
    for one in chunks_of(exchange.body)[: 1 + contents]:
        await exchange.part(frame(one))


async def status(exchange: Exchange) -> None:
    number = int(exchange.body["model"].removeprefix("status-"))
    kind = {400: "invalid_request_error", 401: "invalid_request_error", 404: "invalid_request_error"}
    code = {401: "invalid_api_key", 404: "model_not_found"}.get(number)
    await exchange.json(openai_error(f"The upstream says {number}.", kind.get(number, "server_error"), code), number)


async def rate_limited(exchange: Exchange, retry_after: str = "7") -> None:
    error = openai_error("Slow down.", "rate_limit_error", "rate_limit_exceeded")
    await exchange.json(error, 429, retry_after=retry_after)


async def rate_limited_date(exchange: Exchange) -> None:
    at = datetime.now(UTC) + timedelta(seconds=40)
    await rate_limited(exchange, format_datetime(at, usegmt=True))


async def overloaded(exchange: Exchange) -> None:
    await exchange.json(openai_error("Too much to do."), 503, retry_after="20")


def every_second(fault: Callable[[Exchange], Awaitable[None]]) -> Callable[[Exchange], Awaitable[None]]:
    """The fault, and the next time a proper answer."""

    async def now_and_then(exchange: Exchange) -> None:
        await (properly if exchange.turn % 2 else fault)(exchange)

    return now_and_then


async def fails(exchange: Exchange) -> None:
    await exchange.json(openai_error("A bad moment."), 500)


async def drops(_: Exchange) -> None:
    raise Dropped


async def cut_at_once(exchange: Exchange) -> None:
    await exchange.begin_stream()
    raise Dropped


async def hang_at_once(exchange: Exchange) -> None:
    await exchange.begin_stream()
    await exchange.part(b": still loading\n\n")
    await exchange.wait(None)


async def error_first(exchange: Exchange) -> None:
    error = openai_error("No memory is left.")
    if not exchange.is_stream:
        await exchange.json(error)
        return
    await exchange.begin_stream()
    await exchange.part(frame(error))
    await exchange.end_stream()


async def too_long(exchange: Exchange) -> None:
    """As LM Studio tells it."""
    await exchange.begin_stream()
    error = {"error": {"message": "The prompt is too long.", "code": 400}}
    await exchange.part(b"event: error\n" + frame(error))
    await exchange.end_stream()


async def error_line(exchange: Exchange) -> None:
    """Of an answer that has begun, on a line without `data:`."""
    if not exchange.is_stream:
        await exchange.json(openai_error("The model crashed."))
        return
    await some(exchange, contents=1)
    await exchange.part(json.dumps(openai_error("The model crashed.")).encode() + b"\n")
    await exchange.end_stream()


async def garbage_later(exchange: Exchange) -> None:
    await some(exchange, contents=1)
    await exchange.part(b"data: {not JSON\n\n")
    await exchange.end_stream()


async def plain_text(exchange: Exchange) -> None:
    await exchange.content(b"The model is loading.", kind="text/plain")


async def whole_anyway(exchange: Exchange) -> None:
    """Spread over lines, as some servers write it."""
    body = {**exchange.body, "stream": False}
    await exchange.content(json.dumps(whole(chunks_of(body)), indent=2).encode())


async def mislabelled(exchange: Exchange) -> None:
    if not exchange.is_stream:
        await properly(exchange)
        return
    await exchange.head(content_type="application/json", transfer_encoding="chunked")
    for one in chunks_of(exchange.body):
        await exchange.part(frame(one))
    await exchange.part(b"data: [DONE]\n\n")
    await exchange.end_stream()


async def html(exchange: Exchange) -> None:
    await exchange.content(b"<html><body><h1>Welcome to the proxy</h1></body></html>", kind="text/html")


async def garbage(exchange: Exchange) -> None:
    if not exchange.is_stream:
        await exchange.content(b"this is {not JSON")
        return
    await exchange.begin_stream()
    for line in (b"data: this is {not JSON\n\n", b"data: [1, 2\n\n", b"data: [DONE]\n\n"):
        await exchange.part(line)
    await exchange.end_stream()


async def cut(exchange: Exchange) -> None:
    if exchange.is_stream:
        await some(exchange)
        await exchange.write(b'ff\r\ndata: {"id": "chatcmpl-')  # a chunk of 255 bytes, of which 23 come
    else:
        answer = json.dumps(whole(chunks_of(exchange.body))).encode()
        await exchange.head(content_type="application/json", content_length=len(answer))
        await exchange.write(answer[: len(answer) // 2])
    raise Dropped


async def cut_clean(exchange: Exchange) -> None:
    if exchange.is_stream:
        await some(exchange)
        await exchange.end_stream()
    else:
        await exchange.json(whole(chunks_of(exchange.body)[:4]))


async def no_done(exchange: Exchange) -> None:
    if not exchange.is_stream:
        await properly(exchange)
        return
    await exchange.begin_stream()
    for one in chunks_of(exchange.body):
        await exchange.part(frame(one))
    await exchange.end_stream()


async def hang(exchange: Exchange) -> None:
    if exchange.is_stream:
        await some(exchange)
    else:
        await exchange.head(content_type="application/json", content_length=1000)
    await exchange.wait(None)


async def hang_in_arguments(exchange: Exchange) -> None:
    """A word and the beginning of a tool call in one write, then silence."""
    call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": "{"}}
    await exchange.begin_stream()
    await exchange.part(frame(chunk({"role": "assistant", "content": "Hello"})) + frame(chunk({"tool_calls": [call]})))
    await exchange.wait(None)


async def error_in_stream(exchange: Exchange) -> None:
    error = openai_error("The model crashed.")
    if not exchange.is_stream:
        await exchange.json(error)
        return
    await some(exchange, contents=1)
    await exchange.part(frame(error))
    await exchange.end_stream()


async def detail_error(exchange: Exchange) -> None:
    await exchange.json({"detail": [{"loc": ["body", "tools"], "msg": "Extra inputs are not permitted"}]}, 422)


async def text_error(exchange: Exchange) -> None:
    await exchange.content(b"Internal Server Error", 500, "text/plain")


async def crlf(exchange: Exchange) -> None:
    if not exchange.is_stream:
        await properly(exchange)
        return
    await exchange.begin_stream()
    await exchange.part(b": welcome\r\n\r\n")
    for one in chunks_of(exchange.body):
        await exchange.part(b": keepalive\r\nevent: message\r\n" + frame(one).replace(b"\n", b"\r\n"))
    await exchange.part(b"data: [DONE]\r\n\r\n")
    await exchange.end_stream()


async def split_utf8(exchange: Exchange) -> None:
    """Every character of more than one byte comes in two TCP segments."""
    if not exchange.is_stream:
        await properly(exchange)
        return
    await exchange.begin_stream()
    for one in chunks_of(exchange.body):
        for piece in re.split(rb"(?<=[\xc2-\xf4])", frame(one)):
            await exchange.part(piece)
            await asyncio.sleep(0.001)  # else the kernel sends the pieces together
    await exchange.part(b"data: [DONE]\n\n")
    await exchange.end_stream()


async def gzip(exchange: Exchange) -> None:
    packer = zlib.compressobj(wbits=31)
    if not exchange.is_stream:
        answer = json.dumps(whole(chunks_of(exchange.body))).encode()
        await exchange.content(packer.compress(answer) + packer.flush(), content_encoding="gzip")
        return
    await exchange.begin_stream(content_encoding="gzip")
    for data in [*map(frame, chunks_of(exchange.body)), b"data: [DONE]\n\n"]:
        await exchange.part(packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH))
    await exchange.part(packer.flush())
    await exchange.end_stream()


async def closes(exchange: Exchange) -> None:
    await properly(exchange)
    raise Dropped


# --- rarer faults, met by servers that are half broken or mean harm ---------------------------------------------------


async def stream_of(exchange: Exchange, *parts: bytes) -> None:
    await exchange.begin_stream()
    for one in parts:
        await exchange.part(one)
    await exchange.end_stream()


def told(exchange: Exchange) -> bytes:
    """A proper answer, all of its bytes."""
    chunks = chunks_of(exchange.body)
    if not exchange.is_stream:
        return json.dumps(whole(chunks), ensure_ascii=False).encode()
    return b"".join(map(frame, chunks)) + b"data: [DONE]\n\n"


async def told_as(exchange: Exchange, data: bytes) -> None:
    await exchange.content(data, kind="text/event-stream" if exchange.is_stream else "application/json")


async def byte_order_mark(exchange: Exchange) -> None:
    await told_as(exchange, b"\xef\xbb\xbf" + told(exchange))


async def carriage_returns(exchange: Exchange) -> None:
    await told_as(exchange, told(exchange).replace(b"\n", b"\r"))


async def spread_over_lines(exchange: Exchange) -> None:
    """One event, many `data:` lines, as the standard allows."""
    if not exchange.is_stream:
        await properly(exchange)
        return
    spread = (json.dumps(one, indent=1, ensure_ascii=False).splitlines() for one in chunks_of(exchange.body))
    events = ["".join(f"data: {line}\n" for line in lines) + "\n" for lines in spread]
    await stream_of(exchange, *(event.encode() for event in events), b"data: [DONE]\n\n")


async def comments_only(exchange: Exchange) -> None:
    await stream_of(exchange, *[b": no news\n\n"] * 5)


async def old_http(exchange: Exchange) -> None:
    """HTTP/1.0: no length; the answer ends with the connection."""
    kind = b"text/event-stream" if exchange.is_stream else b"application/json"
    await exchange.write(b"HTTP/1.0 200 OK\r\nContent-Type: " + kind + b"\r\n\r\n" + told(exchange))
    raise Dropped


async def go_on_first(exchange: Exchange) -> None:
    await exchange.write(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")
    await properly(exchange)


async def redirect(exchange: Exchange) -> None:
    await exchange.content(b"", 307, location="https://user:secret@elsewhere.invalid/v1/chat/completions?key=secret")


async def no_content(exchange: Exchange) -> None:
    await exchange.head(204)


async def header_bomb(exchange: Exchange) -> None:
    await exchange.head(content_type="application/json", x_bomb="x" * 200_000)


async def bad_chunk_length(exchange: Exchange) -> None:
    await some(exchange)
    await asyncio.sleep(0.05)  # so that it is read by itself
    await exchange.write(b"not hexadecimal\r\ndata: {}\r\n")
    await exchange.wait(0.5)


async def bad_gzip(exchange: Exchange) -> None:
    await exchange.content(told(exchange), kind="text/event-stream", content_encoding="gzip")


async def gzip_bomb(exchange: Exchange) -> None:
    """A megabyte that unpacks to one line of a gigabyte."""
    packer = zlib.compressobj(level=1, wbits=31)
    begin = packer.compress(b'data: {"choices": [' if exchange.is_stream else b'{"choices": [')
    kind = "text/event-stream" if exchange.is_stream else "application/json"
    await exchange.head(content_type=kind, transfer_encoding="chunked", content_encoding="gzip")
    await exchange.part(begin + packer.flush(zlib.Z_FULL_FLUSH))
    megabyte = packer.compress(b" " * 1_000_000) + packer.flush(zlib.Z_FULL_FLUSH)  # may be said again and again
    for _ in range(1000):
        await exchange.part(megabyte)
    await exchange.end_stream()


def with_first(exchange: Exchange, old: bytes, new: bytes) -> bytes:
    """A proper answer, but for some of its bytes."""
    answer = told(exchange)
    return answer.replace(old, new)


def odd(old: str, new: str) -> Callable[[Exchange], Awaitable[None]]:
    """A proper answer, in which some words are others."""

    async def tell(exchange: Exchange) -> None:
        await told_as(exchange, with_first(exchange, old.encode(), new.encode()))

    return tell


def deep() -> str:
    return "[" * 10_000 + "]" * 10_000


def usage_of_tokens(count: str) -> Callable[[Exchange], Awaitable[None]]:
    return odd(json.dumps(USAGE), "{" + ", ".join(f'"{name}": {count}' for name in USAGE) + "}")


async def no_choices(exchange: Exchange) -> None:
    nothing = {**chunk(), "choices": []}
    if exchange.is_stream:
        await stream_of(exchange, frame(nothing), b"data: [DONE]\n\n")
    else:
        await exchange.json(nothing)


async def deep_refusal(exchange: Exchange) -> None:
    await exchange.content(deep().encode(), 400)


async def refusal_in_pieces(exchange: Exchange) -> None:
    content = json.dumps(openai_error("It comes in pieces.", "invalid_request_error")).encode()
    await exchange.head(400, content_type="application/json", content_length=len(content))
    for piece in (content[:30], content[30:]):
        await exchange.write(piece)
        await asyncio.sleep(0.02)


def says_again(retry_after: str) -> Callable[[Exchange], Awaitable[None]]:
    return lambda exchange: rate_limited(exchange, retry_after)


async def refusal_with_nul(exchange: Exchange) -> None:
    await exchange.content(json.dumps(openai_error("Bad\0 news, \ud83d.", "invalid_request_error")).encode(), 400)


FAULTS: dict[str, Callable[[Exchange], Awaitable[None]]] = {
    "ok": properly,  # no fault at all
    **{
        f"status-{number}": status for number in (400, 401, 403, 404, 413, 500, 503)
    },  # that status, OpenAI's error JSON
    "rate-limited": rate_limited,  # 429 with Retry-After: 7
    "rate-limited-date": rate_limited_date,  # the same as a date, 40 s away
    "rate-limited-once": every_second(lambda exchange: rate_limited(exchange, "1")),  # Retry-After: 1, then right
    "overloaded": overloaded,  # 503 with Retry-After: 20
    "fails-once": every_second(fails),  # 500, then right
    "drops": drops,  # the connection ends without a byte of an answer
    "drops-once": every_second(drops),  # the same, then right
    "cut-at-once": cut_at_once,  # 200, then the connection ends
    "hang-at-once": hang_at_once,  # 200 and a comment, then silence
    "error-first": error_first,  # 200, and the first event is an error
    "too-long": too_long,  # 200, and the first event says that the request is at fault
    "error-line": error_line,  # a piece, then {"error": ...} as a line of its own
    "garbage-later": garbage_later,  # a piece, then what is not JSON
    "plain-text": plain_text,  # 200, a sentence
    "whole-anyway": whole_anyway,  # 200, a whole answer although a stream was asked for
    "mislabelled": mislabelled,  # a stream that is called application/json
    "html": html,  # 200, a web page
    "garbage": garbage,  # data lines, or a body, that are not JSON
    "cut": cut,  # three pieces, then the connection ends inside an HTTP chunk
    "cut-clean": cut_clean,  # three pieces, then a proper end of the body; no finish_reason, no [DONE]
    "no-done": no_done,  # finish_reason, no [DONE]
    "hang": hang,  # three pieces, then silence
    "hang-in-arguments": hang_in_arguments,  # a word, the beginning of a tool call, then silence
    "error-in-stream": error_in_stream,  # a piece, then data: {"error": ...}; whole: 200 with an error
    "detail-error": detail_error,  # 422 in FastAPI's shape
    "text-error": text_error,  # 500 in plain text
    "tool-no-id": properly,  # tool calls without id and index, each in one delta; two when two tools are offered
    "tool-fragments": properly,  # two calls in pieces without id and index
    "tool-repeated-ids": properly,  # two rounds of one call, both with the id call_0
    "stop-with-tools": properly,  # tool calls that finish with "stop"
    "usage-every-chunk": properly,  # usage on every chunk, growing
    "no-usage": properly,  # no usage though asked
    "crlf": crlf,  # CRLF, comment lines, event fields
    "split-utf8": split_utf8,  # emoji cut over TCP segments
    "u2028": properly,  # U+2028, U+2029 and U+0085 raw inside a string
    "gzip": gzip,  # content-encoding: gzip, asked for or not
    "reasoning": properly,  # delta.reasoning before the content
    "reasoning-content": properly,  # delta.reasoning_content before the content
    "length": properly,  # finish_reason length
    "content-filter": properly,  # one piece, finish_reason content_filter
    "refusal": properly,  # delta.refusal
    "empty": properly,  # no content, finish_reason stop
    "flood": properly,  # 2,000 pieces of one letter
    "big-chunk": properly,  # one piece of 5 MB
    "closes": closes,  # right, but the connection is closed after it though keep-alive was promised
    "bom": byte_order_mark,  # a byte order mark before the answer
    "cr": carriage_returns,  # lines that end with CR alone
    "spread": spread_over_lines,  # events of many data lines each
    "comments-only": comments_only,  # a stream of comments, and its end
    "old-http": old_http,  # HTTP/1.0, which ends an answer by closing
    "go-on": go_on_first,  # 100 and 103 before the answer
    "redirect": redirect,  # 307
    "no-content": no_content,  # 204
    "header-bomb": header_bomb,  # a header of 200 kB
    "bad-chunk-length": bad_chunk_length,  # three pieces, then an HTTP chunk whose length is no number
    "bad-gzip": bad_gzip,  # called gzip, and is none
    "gzip-bomb": gzip_bomb,  # a gigabyte in a line, packed
    "nan": odd('"created": 1763596800', '"created": NaN'),  # no JSON, though Python's reads it
    "deep": odd('"object": ', f'"extra": {deep()}, "object": '),  # a member of 10,000 lists inside each other
    "twice": odd('"choices": ', '"choices": [], "choices": '),  # members twice; the last one counts
    "no-choices": no_choices,  # an empty list of choices
    "huge-usage": usage_of_tokens("9" * 40),  # tokens that no column holds
    "float-usage": usage_of_tokens("7.0"),
    "negative-usage": usage_of_tokens("-5"),
    "worded-usage": usage_of_tokens('"many"'),
    "nul": odd("Hello", "Hello\\u0000"),  # U+0000 in the text
    "raw-nul": odd("Hello", "Hello\0"),  # the same as it is, which is no JSON
    "half-character": odd("Hello", "Hello \\ud83d"),  # one surrogate of two
    "odd-logprobs": odd('"finish_reason": ', '"logprobs": "none", "finish_reason": '),
    "deep-refusal": deep_refusal,  # 400 with 10,000 lists inside each other
    "refusal-in-pieces": refusal_in_pieces,  # 400 whose body comes in two TCP segments
    "refusal-with-nul": refusal_with_nul,  # 400 with characters that a database or UTF-8 does not take
    "again-never": says_again("1" + "0" * 30),  # 429 with a Retry-After beyond all calendars
    "again-odd": says_again("Thu, 99 Foo 99999999999999 99:99:99 GMT"),  # with one that is no date
}
ENDLESS = ("hang", "hang-in-arguments", "hang-at-once", "slow-headers")  # until the client has no more patience
SLOW = re.compile(r"slow-headers(?:-(\d+(?:\.\d+)?))?")  # silence before the first byte; slow-headers-0.5 for 0.5 s


# --- the server ------------------------------------------------------------------------------------------------------


@dataclass
class Stats:
    requests: int = 0
    active: int = 0
    started: int = 0
    finished: int = 0
    cancelled: int = 0
    connections: int = 0


@dataclass
class FaultyUpstream:
    """`slow` is the seconds that `slow-headers` takes when its name gives none."""

    slow: float = 60.0
    stats: Stats = field(default_factory=Stats)
    last: dict[str, Any] = field(default_factory=dict)
    turns: Counter[str] = field(default_factory=Counter)
    idle: asyncio.Event = field(default_factory=asyncio.Event)  # set when the last answer under way has ended
    conversations: set[asyncio.Task[None]] = field(default_factory=set)

    @asynccontextmanager
    async def serving(self, port: int = 0, host: str = "127.0.0.1") -> AsyncIterator[str]:
        """Its base URL, while it serves."""
        server = await asyncio.start_server(self.accept, host, port)
        try:
            yield f"http://{host}:{server.sockets[0].getsockname()[1]}/v1"
        finally:
            server.close()
            for conversation in self.conversations:
                conversation.cancel()
            await asyncio.gather(*self.conversations, return_exceptions=True)

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        conversation = asyncio.ensure_future(self.converse(reader, writer))
        self.conversations.add(conversation)
        conversation.add_done_callback(self.conversations.discard)

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """All requests of one connection."""
        self.stats.connections += 1
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            with suppress(ClientGone, Dropped, ConnectionError, asyncio.IncompleteReadError):
                while request := await read_request(reader):
                    await self.respond(request, Exchange(reader, writer))
        finally:
            self.stats.connections -= 1
            writer.close()

    async def respond(self, request: HttpRequest, exchange: Exchange) -> None:
        if request.path in ("/stats", "/last"):
            await exchange.json(asdict(self.stats) if request.path == "/stats" else self.last)
            return
        self.stats.requests += 1
        if (request.method, request.path) == ("GET", "/v1/models"):
            names = [*FAULTS, "slow-headers"]
            await exchange.json({"object": "list", "data": [{"id": name, "object": "model"} for name in names]})
        elif (request.method, request.path) == ("POST", "/v1/chat/completions"):
            exchange.body = json.loads(request.content)
            self.last = {"headers": request.headers, "body": exchange.body}
            await self.chat(exchange)
        else:
            await exchange.json(openai_error(f"No {request.path}", "invalid_request_error", "unknown_url"), 404)

    async def chat(self, exchange: Exchange) -> None:
        self.stats.started += 1
        self.stats.active += 1
        self.idle.clear()
        try:
            await self.answer(exchange)
            self.stats.finished += 1
        except Dropped:
            self.stats.finished += 1
            raise
        except ClientGone:
            self.stats.cancelled += 1
            raise
        finally:
            self.stats.active -= 1
            if not self.stats.active:
                self.idle.set()

    async def answer(self, exchange: Exchange) -> None:
        name = str(exchange.body.get("model"))
        exchange.turn = self.turns[name]
        self.turns[name] += 1
        if slow := SLOW.fullmatch(name):
            await exchange.wait(float(slow[1] or self.slow))
            await properly(exchange)
        elif name in FAULTS:
            await FAULTS[name](exchange)
        else:
            error = openai_error(f"The model `{name}` does not exist.", "invalid_request_error", "model_not_found")
            await exchange.json(error, 404)


async def main() -> None:
    parser = argparse.ArgumentParser(description="An LLM server that misbehaves on demand.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--slow", type=float, default=60.0, help="seconds that slow-headers takes")
    options = parser.parse_args()
    async with FaultyUpstream(slow=options.slow).serving(options.port) as url:
        print(f"Faulty upstream at {url}", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(main())
