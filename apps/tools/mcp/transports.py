"""The roads to an MCP server: streamable HTTP, SSE, and a process of this machine."""

import asyncio
import codecs
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Self, TextIO

import anyio
import httpx2
import structlog
from django.conf import settings
from mcp.client.sse import sse_client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import MCP_SESSION_ID, streamable_http_client

from apps.tools.mcp.failures import Observed, ServerDown
from apps.tools.mcp.oauth import authentication
from apps.tools.mcp.server import Server, may_start
from apps.tools.models import Transport
from apps.tools.redaction import redacted

LARGEST_MESSAGE = 16 * 1024 * 1024  # bytes
_SLACK = 30.0  # seconds that an HTTP request may be silent longer than a call may take
_LINES, _SPAN = 50, 10.0  # of stderr, so many lines in so many seconds are logged
_LONGEST_LINE = 1000
_LAST_WORDS = 0.3  # seconds that are waited for what a process that ended has written

Streams = tuple[Any, Any]
log = structlog.get_logger(__name__)


@asynccontextmanager
async def opened(server: Server, observed: Observed, heard: Callable[[bool], None]) -> AsyncIterator[Streams]:
    """The streams that the SDK's client talks through. `heard` is called with every message that comes in, and with
    False when none will come any more. Raises ServerDown and whatever the transport raises."""
    async with _transport(server, observed) as (read, write):
        yield _Heard(read, heard), write


def http_client(server: Server, observed: Observed) -> httpx2.AsyncClient:
    """With the server's headers and credentials. A request waits somewhat longer than any call may, and reads no more
    than LARGEST_MESSAGE of its answer."""

    async def patience(request: httpx2.Request) -> None:
        if request.method == "GET":  # the stream of notices may be silent for ever
            request.extensions["timeout"] = {**request.extensions.get("timeout", {}), "read": None}

    async def note(response: httpx2.Response) -> None:
        observed.status = response.status_code
        observed.forgot_session |= response.status_code == 404 and MCP_SESSION_ID in response.request.headers
        if not response.headers.get("content-type", "").startswith("text/event-stream"):  # bounded event by event
            response.stream = _Bounded(response.stream)

    return httpx2.AsyncClient(
        headers={"Accept-Encoding": "identity", **server.headers},  # nothing grows after it was counted
        auth=authentication(server.url, server.oauth),
        timeout=httpx2.Timeout(settings.GATEWAY_MCP_CONNECT_TIMEOUT, read=server.timeout + _SLACK),
        limits=httpx2.Limits(max_connections=2 * server.max_concurrency + 20),
        event_hooks={"request": [patience], "response": [note]},
    )


class _Bounded(httpx2.AsyncByteStream):
    """A body of which no more than LARGEST_MESSAGE is read: httpx2.StreamError, which costs the one request."""

    def __init__(self, body: Any) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for part in self._body:
            size += len(part)
            if size > LARGEST_MESSAGE:
                raise httpx2.StreamError(f"its answer is larger than {LARGEST_MESSAGE:,} bytes")
            yield part

    async def aclose(self) -> None:
        await self._body.aclose()


def _transport(server: Server, observed: Observed) -> Any:
    if server.transport == Transport.STDIO:
        return _process(server, observed)
    if server.transport == Transport.SSE:
        return sse_client(server.url, httpx_client_factory=lambda *_args, **_kwargs: http_client(server, observed))
    return _streamable(server, observed)


@asynccontextmanager
async def _streamable(server: Server, observed: Observed) -> AsyncGenerator[Streams]:
    async with (
        http_client(server, observed) as client,
        streamable_http_client(server.url, http_client=client, max_sse_event_size=LARGEST_MESSAGE) as streams,
    ):
        yield streams


@asynccontextmanager
async def _process(server: Server, observed: Observed) -> AsyncGenerator[Streams]:
    if not may_start(server.command):
        raise ServerDown("GATEWAY_MCP_STDIO does not allow its command: add it there, or remove the server.")
    program, *arguments = server.command
    parameters = StdioServerParameters(
        command=program,
        args=arguments,
        env=dict(server.environment),
        cwd=settings.DATA_DIR,
        encoding=_BOUNDED_UTF_8,
        encoding_error_handler="replace",  # an odd byte would else end the connection, and not say so
    )
    async with _logged_errors(server, observed) as errors, stdio_client(parameters, errlog=errors) as streams:
        errors.close()  # the process has it: the pipe ends with the last one that does
        yield streams


class _BoundedLines(codecs.IncrementalDecoder):
    """UTF-8; of a line that is longer than LARGEST_MESSAGE the rest is left out, so that it is no message. `mcp` keeps
    a line that has not ended whole, and copies it with every piece that comes."""

    def __init__(self, errors: str = "strict") -> None:
        super().__init__(errors)
        self._utf_8 = codecs.getincrementaldecoder("utf-8")(errors)
        self._size = 0  # of the line so far

    def decode(self, input: Any, final: bool = False) -> str:
        parts = bytes(input).split(b"\n")
        for place, part in enumerate(parts):
            self._size = len(part) + (0 if place else self._size)
            if self._size > LARGEST_MESSAGE:
                parts[place] = b""
        return self._utf_8.decode(b"\n".join(parts), final)


# An encoding is all that `mcp` lets others say about how it reads.
_BOUNDED_UTF_8 = "utf_8_of_bounded_lines"
_UTF_8 = codecs.lookup("utf-8")
codecs.register(
    lambda name: (
        codecs.CodecInfo(_UTF_8.encode, _UTF_8.decode, incrementaldecoder=_BoundedLines, name=name)
        if name == _BOUNDED_UTF_8
        else None
    )
)


@asynccontextmanager
async def _logged_errors(server: Server, observed: Observed) -> AsyncGenerator[TextIO]:
    """A file for a process's stderr."""
    reading, writing = os.pipe()
    logging = asyncio.create_task(_log_errors(server, reading, observed))
    with os.fdopen(writing, "w") as errors:
        try:
            yield errors
        finally:
            errors.close()
            with anyio.move_on_after(_LAST_WORDS, shield=True):
                await asyncio.wait({logging})
            logging.cancel()


async def _log_errors(server: Server, descriptor: int, observed: Observed) -> None:
    """Log what a process writes to stderr: whole lines, without secrets, cut, and not more than a log can bear."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    pipe, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb", buffering=0)
    )
    budget = _Budget(server.slug)
    rest = b""
    try:
        while chunk := await reader.read(4096):
            *lines, rest = (rest[-_LONGEST_LINE:] + chunk).split(b"\n")
            for line in lines:
                text = redacted(line.decode(errors="replace").strip(), server.secrets)[:_LONGEST_LINE]
                if text:
                    observed.said = text
                    budget.tell(text, loop.time())
    finally:
        pipe.close()


class _Budget:
    """So many lines in a span of time; of the others only their number."""

    def __init__(self, slug: str) -> None:
        self._slug = slug
        self._began = 0.0
        self._told = self._left_out = 0

    def tell(self, line: str, now: float) -> None:
        if now - self._began >= _SPAN:
            if self._left_out:
                log.warning("mcp_server_stderr_left_out", server=self._slug, lines=self._left_out)
            self._began, self._told, self._left_out = now, 0, 0
        if self._told < _LINES:
            self._told += 1
            log.info("mcp_server_stderr", server=self._slug, line=line)
        else:
            self._left_out += 1


class _Heard:
    """A stream of messages that tells of each, and of its end."""

    def __init__(self, stream: Any, heard: Callable[[bool], None]) -> None:
        self._stream = stream
        self._heard = heard

    def __getattr__(self, name: str) -> Any:  # `last_context`, which some streams have
        return getattr(self._stream, name)

    def __aiter__(self) -> "_Heard":
        return self

    async def __anext__(self) -> Any:
        try:
            message = await anext(self._stream)
        except StopAsyncIteration:
            self._heard(False)
            raise
        self._heard(True)
        return message

    async def __aenter__(self) -> Self:
        await self._stream.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> Any:
        return await self._stream.__aexit__(*error)
