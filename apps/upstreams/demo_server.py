"""The demo upstream over HTTP, as a plain ASGI app: compose, tests and benchmarks talk to it as to any LLM server.

It needs no Django. It must cost little, as it is the upstream in the benchmark: frames are encoded once, and those of
plain `[[words=N]]` answers are kept.
"""

import asyncio
import hmac
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, MutableMapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import Any

import msgspec

from apps.upstreams import demo
from apps.upstreams.demo import DemoRequestError

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

MAX_BODY_BYTES = 32 * 1024 * 1024
YIELD_EVERY = 64  # frames: without a delay nothing else lets the event loop see that the client has left
CHAT_PATH = "/v1/chat/completions"
MODELS_PATH = "/v1/models"

encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder().decode


@dataclass
class Stats:
    """What `GET /stats` tells: requests under /v1, and how the answers to chat requests went."""

    requests: int = 0
    active: int = 0
    started: int = 0
    finished: int = 0
    cancelled: int = 0


class ClientGone(Exception):
    """The client closed its connection before it had the whole answer."""


@dataclass
class DemoServer:
    """The ASGI app. `delay` is the seconds between two words, `first_delay` those before an answer begins.

    With an `api_key`, requests under /v1 need it as a bearer token; `/stats` never does.
    """

    delay: float = 0.0
    first_delay: float = 0.0
    api_key: str = ""
    stats: Stats = field(default_factory=Stats)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        try:
            await self.respond(scope, receive, send)
        except DemoRequestError as error:
            await _send_json(send, error.body(), status=error.status)
        except ClientGone:
            pass  # counted where it was noticed, and there is nobody left to tell

    async def respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request. Raises DemoRequestError and ClientGone."""
        method, path = scope["method"], scope["path"].rstrip("/")
        if path == "/stats":
            await _send_json(send, asdict(self.stats))
            return
        self.stats.requests += 1
        _check_route(method, path)
        self.check_key(scope)
        if path == CHAT_PATH:
            await self.chat(scope, receive, send)
        else:
            await _send_json(send, _model(path.removeprefix(MODELS_PATH).lstrip("/")))

    def check_key(self, scope: Scope) -> None:
        given = dict(scope["headers"]).get(b"authorization", b"")
        if self.api_key and not hmac.compare_digest(given, b"Bearer " + self.api_key.encode()):
            message = "This demo upstream wants the API key that it was started with."
            raise DemoRequestError(message, code="invalid_api_key", status=401)

    async def chat(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = _decoded(await _read(scope, receive))
        reply = _frames(body) if body.get("stream") else demo.completion(body)
        asked = demo.delay_of(body)
        delay = self.delay if asked is None else asked
        gone = asyncio.ensure_future(_gone(receive))
        self.stats.started += 1
        self.stats.active += 1
        try:
            await self.answer(reply, delay, gone, send)
            self.stats.finished += 1
        except ClientGone:
            self.stats.cancelled += 1
            raise
        finally:
            self.stats.active -= 1
            gone.cancel()

    async def answer(
        self, reply: Iterator[bytes] | dict[str, Any], delay: float, gone: asyncio.Future[None], send: Send
    ) -> None:
        """Sends the frames of a stream, or a whole answer after the time that its words take. Raises ClientGone."""
        await _wait(self.first_delay, gone)
        if isinstance(reply, dict):
            await _wait(delay * reply["usage"]["completion_tokens"], gone)
            await _send_json(send, reply)
        else:
            await _send_frames(send, _paced(reply, delay, gone))


# --- requests --------------------------------------------------------------------------------------------------------


def _check_route(method: str, path: str) -> None:
    """Raises DemoRequestError for a path or a method that is not there."""
    if path not in {CHAT_PATH, MODELS_PATH} and not path.startswith(f"{MODELS_PATH}/"):
        raise DemoRequestError(f"The demo upstream has no {path or '/'}.", code="unknown_url", status=404)
    wanted = "POST" if path == CHAT_PATH else "GET"
    if method != wanted:
        raise DemoRequestError(f"{path} takes {wanted}, not {method}.", code="method_not_allowed", status=405)


def _model(name: str) -> dict[str, Any]:
    """The list of models, or the one of this name. Raises DemoRequestError."""
    listed = demo.models()
    if not name:
        return listed
    for model in listed["data"]:
        if model["id"] == name:
            return dict(model)
    message = (
        f"The model `{name}` does not exist: the demo upstream lists `{demo.MODEL}`, though it answers to any name."
    )
    raise DemoRequestError(message, param="model", code="model_not_found", status=404)


async def _read(scope: Scope, receive: Receive) -> bytes:
    """The body. Raises DemoRequestError when it is too large, and ClientGone."""
    length = dict(scope["headers"]).get(b"content-length", b"0")
    _check_size(int(length) if length.isdigit() else 0)
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        body += message.get("body", b"")
        _check_size(len(body))
        if not message.get("more_body"):
            return bytes(body)


def _check_size(size: int) -> None:
    if size > MAX_BODY_BYTES:
        message = f"The request is larger than {MAX_BODY_BYTES // 1024 // 1024} MB."
        raise DemoRequestError(message, code="request_too_large", status=413)


def _decoded(body: bytes) -> dict[str, Any]:
    try:
        decoded = decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DemoRequestError(f"The request body is not valid JSON: {error}") from error
    if not isinstance(decoded, dict):
        raise DemoRequestError("The request body must be a JSON object.")
    return decoded


# --- answers ---------------------------------------------------------------------------------------------------------


def _frame(chunk: Mapping[str, Any]) -> bytes:
    return b"data: " + encode(chunk) + b"\n\n"


def _frames(body: Mapping[str, Any]) -> Iterator[bytes]:
    """The answer's server-sent events up to `[DONE]`. Raises DemoRequestError before the first."""
    words = demo.plain_words(body)
    if words is None:
        return _with_done(map(_frame, demo.chunks(body)))
    options = body.get("stream_options")
    with_usage = isinstance(options, dict) and bool(options.get("include_usage"))
    *frames, last = _word_frames(words, str(body.get("model") or demo.MODEL), with_usage)
    if not with_usage:
        return _with_done([*frames, last])
    usage = demo.usage_of(body, completion_tokens=words)  # alone depends on the rest of the request
    return _with_done([*frames, _frame({**decode(last.removeprefix(b"data: ")), "usage": usage})])


def _with_done(frames: Iterable[bytes]) -> Iterator[bytes]:
    yield from frames
    yield b"data: [DONE]\n\n"


@lru_cache(maxsize=64)
def _word_frames(words: int, model: str, with_usage: bool) -> tuple[bytes, ...]:
    body = {
        "model": model,
        "messages": [{"role": "user", "content": f"[[words={words}]]"}],
        "stream_options": {"include_usage": with_usage},
    }
    return tuple(map(_frame, demo.chunks(body)))


async def _paced(frames: Iterator[bytes], delay: float, gone: asyncio.Future[None]) -> AsyncIterator[bytes]:
    """The frames, `delay` seconds apart. Raises ClientGone."""
    for number, frame in enumerate(frames):
        if delay and number:
            await _wait(delay, gone)
        elif number % YIELD_EVERY == 0:
            await asyncio.sleep(0)
            _check_present(gone)
        yield frame


async def _wait(seconds: float, gone: asyncio.Future[None]) -> None:
    """Waits, or raises ClientGone as soon as the client has left."""
    if seconds:
        await asyncio.wait([gone], timeout=seconds)
    _check_present(gone)


def _check_present(gone: asyncio.Future[None]) -> None:
    if gone.done():
        raise ClientGone


async def _gone(receive: Receive) -> None:
    """Returns when the client has closed the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _send_frames(send: Send, frames: AsyncIterator[bytes]) -> None:
    headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    async for frame in frames:
        await send({"type": "http.response.body", "body": frame, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _send_json(send: Send, content: Mapping[str, Any], *, status: int = 200) -> None:
    body = encode(content)
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
