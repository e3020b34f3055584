"""Django's request handler for the road that never leaves the event loop.

Django's own ASGI handler opens a thread-sensitive context, spools the body into a temporary file, runs two tasks and
hops to a thread about six times, because its default signal receivers and `response.close` are synchronous. This one
reads the body into bytes, awaits the middleware chain and sends: a tenth of the cost. The condition: nothing on this
road is synchronous (no sync middleware, no sync view, no ORM call), which tests/core/test_loop_handler.py guards.
Resolver, ninja, pydantic and middleware stay Django's.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from functools import lru_cache
from io import BytesIO
from itertools import chain
from types import MappingProxyType
from typing import Any, Self

from django.conf import settings
from django.core.handlers.asgi import ASGIHandler, ASGIRequest
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.urls import ResolverMatch
from django.utils.module_loading import import_string

from apps.core.errors import BodyTooLarge

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

_LISTEN_AFTER = 0.05  # seconds
_KEEPALIVE_SECONDS = 10.0
_KEEPALIVE = b": keepalive\n\n"
_NO_HEADERS: Mapping[str, str] = MappingProxyType({})


class ClientLeft(Exception):
    """The connection closed before the request was read."""


class LoopRequest(ASGIRequest):
    """A request whose body is in memory, and which can be cancelled when its client leaves."""

    def __init__(self, scope: Scope, receive: Receive, body: bytes | None) -> None:
        # Django takes each header's name apart anew, of which official clients send twenty.
        super().__init__({**scope, "headers": ()}, BytesIO(body or b""))
        self.scope = scope
        meta: dict[str, Any] = self.META
        for name, value in scope["headers"]:
            if key := _in_meta(name):
                text = value.decode("latin-1")
                meta[key] = f"{meta[key]},{text}" if key in meta else text
        self._set_content_type_params(meta)  # type: ignore[attr-defined]  # of HttpRequest
        self.client_left = False
        self.answer_headers: Mapping[str, str] = {}  # that the answer carries, whether it is a result or an error
        self.document: Mapping[str, Any] = {}  # what the JSON of the body says, once that has been parsed
        self._receive = receive
        self._content = body
        self._listener: asyncio.TimerHandle | asyncio.Task[None] | None = None

    @property
    def body(self) -> bytes:
        """Raises BodyTooLarge when the body exceeds GATEWAY_MAX_BODY_BYTES."""
        if self._content is None:
            raise BodyTooLarge(
                f"The request body is larger than {settings.GATEWAY_MAX_BODY_BYTES:,} bytes. "
                "Send less, such as smaller images, or raise GATEWAY_MAX_BODY_BYTES."
            )
        return self._content

    def cancel_when_client_leaves(self) -> None:
        """From now on the task of this request is cancelled as soon as its client has closed the connection.

        Listening begins a moment later: an answer that is there by then is spared the task.
        """
        if self._listener is None:
            loop = asyncio.get_running_loop()
            task = asyncio.current_task(loop)
            assert task is not None
            self._listener = loop.call_later(_LISTEN_AFTER, self._begin_to_listen, task)

    def _begin_to_listen(self, task: asyncio.Task[Any]) -> None:
        self._listener = asyncio.create_task(self._listen(task))

    async def _listen(self, task: asyncio.Task[Any]) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.client_left = True
        task.cancel()

    def stop_listening(self) -> None:
        if self._listener is not None:
            self._listener.cancel()


@lru_cache(maxsize=1000)
def _in_meta(name: bytes) -> str:
    """Where Django has a header; empty for one with an underscore, which would pass for another one's hyphen."""
    text = name.decode("latin-1")
    if "_" in text:
        return ""
    key = text.upper().replace("-", "_")
    return key if key in ("CONTENT_LENGTH", "CONTENT_TYPE") else f"HTTP_{key}"


class Answer(HttpResponseBase):
    """A whole answer in JSON of this road, and of no other: Django's own handler asks more of a response.

    Without Django's constructor, whose cookies, charset and reason phrase nobody on this road asks for: Django's
    response, made and sent, costs a fortieth of all that a request does.
    """

    streaming = False

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.status_code = 200
        self.headers: dict[str, str] = {"content-type": "application/json"}  # type: ignore[assignment]  # Django's own type


class EventStream(StreamingHttpResponse):
    """Server-sent events. `frames` are whole events in bytes; `on_close` runs in any case when the answer has ended."""

    def __init__(self, frames: AsyncGenerator[bytes, None], on_close: Callable[[], Awaitable[None]]) -> None:
        super().__init__(frames, content_type="text/event-stream")
        self.headers["Cache-Control"] = "no-cache"
        self.headers["X-Accel-Buffering"] = "no"  # nginx would hold the stream back
        self.frames = frames
        self.on_close = on_close


class LoopHandler(ASGIHandler):
    """Serves what is asynchronous from view to socket; its middleware is settings.LOOP_MIDDLEWARE."""

    def __init__(self) -> None:
        super().__init__()
        self._matches: dict[str, ResolverMatch] = {}

    def resolve_request(self, request: HttpRequest) -> ResolverMatch:
        """As Django's, which costs as much as the view; paths without parameters, of which there are few, once."""
        match = self._matches.get(request.path_info)
        if match is None:
            match = super().resolve_request(request)
            if not match.kwargs:
                self._matches[request.path_info] = match
        request.resolver_match = match
        return match

    def load_middleware(self, is_async: bool = True) -> None:  # noqa: ARG002  # Django's signature
        # Without Django's exception wrapper, which hops to a thread: the innermost of ours answers every exception.
        handler: Any = self._answer
        for path in reversed(settings.LOOP_MIDDLEWARE):
            handler = import_string(path)(handler)
        self._middleware_chain = handler

    async def _answer(self, request: HttpRequest) -> HttpResponseBase:
        """As Django's innermost handler, without what this road has none of: transactions, synchronous views,
        templates, middleware of views and exceptions."""
        view, args, kwargs = self.resolve_request(request)
        response: HttpResponseBase = await view(request, *args, **kwargs)
        return response

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # type: ignore[override]
        try:
            request = LoopRequest(scope, receive, await _read_body(scope, receive))
        except ClientLeft:
            return
        try:
            await self._serve(request, send)
        except asyncio.CancelledError:
            if not request.client_left:
                raise  # the server is stopping

    async def _serve(self, request: LoopRequest, send: Send) -> None:
        response: HttpResponseBase | None = None
        try:
            response = await self._middleware_chain(request)
            await _send(response, send, request.answer_headers)
        finally:
            request.stop_listening()
            if isinstance(response, EventStream):
                await response.frames.aclose()
                await response.on_close()


async def _read_body(scope: Scope, receive: Receive) -> bytes | None:
    """The body, or None when it is too large to be read. Raises ClientLeft."""
    limit = settings.GATEWAY_MAX_BODY_BYTES
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit() and int(value) > limit:
            return None
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientLeft
        if part := message.get("body", b""):
            size += len(part)
            if size > limit:
                return None
            parts.append(part)
        if not message.get("more_body"):
            return parts[0] if len(parts) == 1 else b"".join(parts)


async def _send(response: HttpResponseBase, send: Send, more: Mapping[str, str] = _NO_HEADERS) -> None:
    told = chain(response.headers.items(), more.items())
    headers = [(_name(name), value.encode("latin-1")) for name, value in told]
    start = {"type": "http.response.start", "status": response.status_code, "headers": headers}
    if isinstance(response, EventStream):
        await send(start)
        await _send_frames(response, send)
        return
    assert isinstance(response, (Answer, HttpResponse))
    content = response.content
    headers.append((b"content-length", b"%d" % len(content)))
    await send(start)
    await send({"type": "http.response.body", "body": content})


@lru_cache(maxsize=1000)
def _name(name: str) -> bytes:
    """Of a header, as ASGI has it."""
    return name.lower().encode("latin-1")


async def _send_frames(response: EventStream, send: Send) -> None:
    with _Keepalive(send) as keepalive:
        async for frame in response.frames:
            keepalive.last_sent = keepalive.now()
            await send({"type": "http.response.body", "body": frame, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


class _Keepalive:
    """Sends a comment frame in every ten seconds of silence, by one timer instead of a time-out around every event."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.now = asyncio.get_running_loop().time
        self.last_sent = self.now()
        self._sending: asyncio.Task[None] | None = None

    def __enter__(self) -> Self:
        self._arm(_KEEPALIVE_SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def _arm(self, delay: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(delay, self._tick)

    def _tick(self) -> None:
        silence = self.now() - self.last_sent
        if silence < _KEEPALIVE_SECONDS:
            self._arm(_KEEPALIVE_SECONDS - silence)
            return
        self._sending = asyncio.create_task(self._beat())
        self._arm(_KEEPALIVE_SECONDS)

    async def _beat(self) -> None:
        with contextlib.suppress(OSError):  # the client has gone; whoever serves it will be told
            await self._send({"type": "http.response.body", "body": _KEEPALIVE, "more_body": True})
