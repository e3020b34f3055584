"""The one HTTP road to LLM servers: a request is posted, the server-sent events of its answer come back as raw JSON.

aiohttp, because its cost per call is a fifth of httpx's. One session per event loop: a pool must not be shared between
loops, and a drop-in may run its own loop in a tool's thread.
"""

import asyncio
import json
import math
import socket
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Final, TypeVar
from weakref import WeakKeyDictionary

import aiohttp
import msgspec

from apps.core import clock
from apps.core.errors import UpstreamError, UpstreamRejected, UpstreamTimeout, UpstreamUnreachable
from apps.core.json import encode
from apps.upstreams import demo, health
from apps.upstreams.capacity import Place
from apps.upstreams.models import Kind
from apps.upstreams.routing import Target

# Statuses that tell the caller something about its own request; everything else of 4xx is between us and the server.
CALLERS_FAULT: Final = frozenset({400, 404, 413, 422, 429})
MAX_ANSWER: Final = 32 * 1024 * 1024  # bytes, of a line of a stream or of a whole answer
_DONE: Final = b"[DONE]"
_DEMO_PAUSE = 0.012  # seconds between the demo's words, so that streaming can be seen

Answer = TypeVar("Answer")

_sessions: WeakKeyDictionary[asyncio.AbstractEventLoop, aiohttp.ClientSession] = WeakKeyDictionary()


def _new_session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        # Shorter than the 5 s after which uvicorn, Node and llama.cpp close an idle connection: who reuses one in that
        # very moment gets no answer.
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=4, ttl_dns_cache=60),
        auto_decompress=True,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None),
        headers={"Accept-Encoding": "identity", "User-Agent": "agent-gateway"},
    )


def open_session() -> None:
    """Give the running loop a pool of its own that lives until `close_session`. Called once by a server process."""
    _sessions[asyncio.get_running_loop()] = _new_session()


async def close_session() -> None:
    session = _sessions.pop(asyncio.get_running_loop(), None)
    if session:
        await session.close()


class AnswerStream:
    """The answer's events as raw JSON, those of one read together: they are there at once, and may be taken as one.

    The first ones have been looked at: they are JSON objects, and no error. Whoever has one must `aclose()` it; closing
    early ends the connection.
    """

    def __init__(
        self, target: Target, response: aiohttp.ClientResponse, own_session: aiohttp.ClientSession | None
    ) -> None:
        self._target = target
        self._response = response
        self._own_session = own_session
        self._first: list[bytes] = []
        self._patience: float | None = None  # until the answer has begun, others watch the clock
        self._pieces: list[bytes] = []  # of a line that has no end yet
        self._is_at_end = False
        self.is_complete = False  # the server said [DONE]
        self.place: Place | None = None  # left when the answer ends

    def __aiter__(self) -> AsyncIterator[list[bytes]]:
        return self._events()

    async def aclose(self) -> None:
        if self.place:
            self.place.leave()
        self._response.close()
        if self._own_session:
            await self._own_session.close()

    async def begin(self) -> None:
        """Wait for the first events. Raises UpstreamError when they are an error, none at all, or not JSON."""
        if self._response.content_type == "application/json":  # of a server that knows no streams
            self._first = [await _all_of(self._target, self._response)]
            self._is_at_end = True
        else:
            self._first = await self._next()
        if not self._first:
            raise self._nothing_came()
        look_at(self._target, self._first[0])
        self._patience = self._target.silence_timeout

    def _nothing_came(self) -> UpstreamError:
        if (kind := self._response.content_type) != "text/event-stream":
            return UpstreamError(f"Upstream '{self._target.slug}' answered with {kind} instead of a stream of events.")
        return UpstreamUnreachable(
            f"Upstream '{self._target.slug}' ended its answer without having begun it.", code="upstream_cut"
        )

    async def _events(self) -> AsyncIterator[list[bytes]]:
        events, self._first = self._first, []
        try:
            while events:
                yield events
                events = [] if self.is_complete else await self._next()
            if self.is_complete:
                await self.finish()
        except UpstreamError as error:
            health.note_failure(self._target.slug, error, cooldown=self._target.cooldown, has_begun=True)
            raise
        finally:
            if self.place:
                self.place.leave()

    async def _next(self) -> list[bytes]:
        """The events of the next read that brings any; none at the end."""
        while not self._is_at_end and (data := await self._read()):
            if (events := self._events_in(self._lines(data))) or self.is_complete:
                return events
        self._is_at_end = True
        last = b"".join(self._pieces)  # a line that lacks its end
        self._pieces.clear()
        return self._events_in([last])

    def _lines(self, data: bytes) -> list[bytes]:
        """Those that end in `data`."""
        # Split on the line feed alone: U+2028 and friends may stand inside a JSON string.
        lines = data.split(b"\n")
        if len(lines) > 1 and self._pieces:
            lines[0] = b"".join((*self._pieces, lines[0]))
            self._pieces.clear()
        if rest := lines.pop():
            self._pieces.append(rest)
            if len(self._pieces) > 1 and sum(map(len, self._pieces)) > MAX_ANSWER:
                raise UpstreamError(f"Upstream '{self._target.slug}' sent a line of over {MAX_ANSWER} bytes.")
        return lines

    def _events_in(self, lines: list[bytes]) -> list[bytes]:
        events: list[bytes] = []
        for line in lines:
            if line.startswith(b"data:"):
                event = line[5:].strip()
                if event == _DONE:
                    self.is_complete = True
                    break
                if event:
                    events.append(event)
            elif line.startswith(b"{"):  # some servers report an error as a bare line
                events.append(line)
        return events

    async def _read(self) -> bytes:
        content = self._response.content
        try:
            if waiting := content.read_nowait():  # spares a timer where nothing is waited for
                return waiting
            if self._patience is None:
                return await content.readany()
            async with asyncio.timeout(self._patience):
                return await content.readany()
        except TimeoutError as error:
            raise UpstreamTimeout(
                f"Upstream '{self._target.slug}' was silent for {self._patience:g} s in the middle of its answer.",
                code="upstream_silent",
            ) from error
        except aiohttp.ClientError as error:
            raise UpstreamUnreachable(
                f"Upstream '{self._target.slug}' closed the connection in the middle of its answer.",
                code="upstream_cut",
            ) from error

    async def finish(self) -> None:
        """Read to the end of the body, which follows at once, so that the connection can serve again."""
        try:
            async with asyncio.timeout(0.05):
                while await self._response.content.readany():
                    pass
        except (TimeoutError, aiohttp.ClientError):
            pass  # the answer is whole; only the connection is lost


class _DemoStream:
    """The built-in demo, without HTTP."""

    is_complete = True
    place: Place | None = None

    def __init__(self, chunks: Iterable[dict[str, Any]]) -> None:
        self._chunks = chunks

    async def __aiter__(self) -> AsyncIterator[list[bytes]]:
        for chunk in self._chunks:
            yield [encode(chunk)]
            await asyncio.sleep(_DEMO_PAUSE)

    async def finish(self) -> None:
        return

    async def aclose(self) -> None:
        if self.place:
            self.place.leave()


async def open_stream(
    target: Target,
    path: str,
    body: dict[str, Any],
    *,
    headers: Mapping[str, str],
    query: Mapping[str, Any],
    patience: float,
) -> AnswerStream | _DemoStream:
    """Post a request for a stream; returns when its first event is there. `headers` and `query` are the caller's.

    Raises UpstreamUnreachable, UpstreamTimeout (after `patience` seconds), UpstreamRejected (the caller's fault, with
    the server's status and message) or UpstreamError (the server's or the operator's).
    """
    if _is_built_in(target):
        return _DemoStream(_by_demo(demo.chunks, target, path, body))
    session, own_session = _session()
    response = None
    try:
        async with asyncio.timeout(patience):
            response = await _post(session, target, path, body, headers, query)
            await _accept(target, response)
            stream = AnswerStream(target, response, own_session)
            await stream.begin()
            return stream
    except BaseException as error:
        if response is not None:
            response.close()
        if own_session:
            await own_session.close()
        if isinstance(error, TimeoutError):
            raise UpstreamTimeout(
                f"Upstream '{target.slug}' did not begin to answer within {target.first_event_timeout:g} s."
            ) from error
        raise


async def ask(
    target: Target,
    path: str,
    body: dict[str, Any],
    *,
    headers: Mapping[str, str],
    query: Mapping[str, Any],
    patience: float,
) -> bytes:
    """Post a request for a whole answer: a JSON object of at most MAX_ANSWER bytes. Raises as `open_stream` does."""
    if _is_built_in(target):
        return encode(_by_demo(demo.completion, target, path, body))
    session, own_session = _session()
    response = None
    try:
        async with asyncio.timeout(patience):
            response = await _post(session, target, path, body, headers, query)
            await _accept(target, response)
            answer = await _all_of(target, response)
    except TimeoutError as error:
        raise UpstreamTimeout(f"Upstream '{target.slug}' did not answer within {patience:.3g} s.") from error
    finally:
        if response is not None:
            response.close()  # of an answer that was read to its end, the connection has gone back already
        if own_session:
            await own_session.close()
    look_at(target, answer)
    return answer


def _session() -> tuple[aiohttp.ClientSession, aiohttp.ClientSession | None]:
    """The running loop's; where it has none, one that serves a single call, told twice."""
    session = _sessions.get(asyncio.get_running_loop())
    if session is not None:
        return session, None
    session = _new_session()
    return session, session


def _is_built_in(target: Target) -> bool:
    return target.kind == Kind.DEMO and not target.base_url


def _by_demo(answer: Callable[[dict[str, Any]], Answer], target: Target, path: str, body: dict[str, Any]) -> Answer:
    if path != "/chat/completions":
        raise UpstreamRejected(f"Upstream '{target.slug}' says: The demo has no {path}.", status=404)
    try:
        return answer(body)
    except demo.DemoRequestError as error:
        raise UpstreamRejected(str(error), status=400) from error


async def _all_of(target: Target, response: aiohttp.ClientResponse) -> bytes:
    pieces: list[bytes] = []
    size = 0
    try:
        while piece := await response.content.readany():
            pieces.append(piece)
            size += len(piece)
            if size > MAX_ANSWER:
                raise UpstreamError(f"Upstream '{target.slug}' sent an answer of over {MAX_ANSWER} bytes.")
    except aiohttp.ClientError as error:
        raise UpstreamUnreachable(
            f"Upstream '{target.slug}' closed the connection in the middle of its answer.", code="upstream_cut"
        ) from error
    return b"".join(pieces)


async def _post(
    session: aiohttp.ClientSession,
    target: Target,
    path: str,
    body: dict[str, Any],
    headers: Mapping[str, str],
    query: Mapping[str, Any],
) -> aiohttp.ClientResponse:
    own = {"Content-Type": "application/json"}
    if target.secret:
        own["Authorization"] = f"Bearer {target.secret}"
    try:
        return await session.post(
            f"{target.base_url}{path}",
            data=encode(body),
            headers={**headers, **own},
            params=query,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=target.connect_timeout),
        )
    except aiohttp.ServerTimeoutError as error:
        raise _unreached(
            UpstreamTimeout(
                f"Upstream '{target.slug}' did not accept a connection within {target.connect_timeout:g} s."
            )
        ) from error
    except aiohttp.ClientConnectorError as error:
        why = "its host name is not known" if isinstance(error.os_error, socket.gaierror) else "nothing listens there"
        raise _unreached(
            UpstreamUnreachable(f"Upstream '{target.slug}' cannot be reached: {why}. Is the server started?")
        ) from error
    except (aiohttp.ClientError, OSError) as error:
        raise UpstreamUnreachable(
            f"Upstream '{target.slug}' closed the connection without an answer ({type(error).__name__})."
        ) from error


def _unreached(error: UpstreamError) -> UpstreamError:
    error.reached = False
    return error


async def _accept(target: Target, response: aiohttp.ClientResponse) -> None:
    """Raises what a refusal means; an accepted answer is left to be read."""
    if response.status == 200:
        if response.content_type != "text/html":
            return
        response.close()
        raise UpstreamError(
            f"Upstream '{target.slug}' answered with a web page instead of a chat completion. "
            "Its base URL probably lacks /v1, or a proxy stands in between."
        )
    try:
        async with asyncio.timeout(5):
            text = (await response.content.read(64 * 1024)).decode("utf-8", "replace")
    except (TimeoutError, aiohttp.ClientError):
        text = ""
    finally:
        response.close()
    raise _refusal(target, response, text)


def _refusal(target: Target, response: aiohttp.ClientResponse, text: str) -> UpstreamError:
    refusal = _meaning(target, response, _message_in(text))
    refusal.answered = response.status
    return refusal


def _meaning(target: Target, response: aiohttp.ClientResponse, said: str) -> UpstreamError:
    status = response.status
    if status in (401, 403):
        return UpstreamError(
            f"Upstream '{target.slug}' refused the gateway's secret ({status}). Enter it again in the admin.",
            code="upstream_unauthorised",
        )
    retry_after = response.headers.get("Retry-After")
    if status not in CALLERS_FAULT:
        return UpstreamError(
            f"Upstream '{target.slug}' failed with status {status}: {said or 'no reason given'}",
            retry_after=_seconds(retry_after),
        )
    return refused(f"Upstream '{target.slug}' says: {said or f'status {status}'}", status, retry_after)


def refused(message: str, status: int, retry_after: str | None) -> UpstreamRejected:
    """A server's refusal of the caller's own request, with its status and the header Retry-After."""
    code = "rate_limit_exceeded" if status == 429 else None
    return UpstreamRejected(message, status=status, code=code, retry_after=_seconds(retry_after))


def _message_in(text: str) -> str:
    """The reason in an error body of any of the shapes that servers use."""
    try:
        body = json.loads(text)
    except ValueError:
        return text.strip()[:500]
    error = body.get("error", body) if isinstance(body, dict) else body
    if isinstance(error, dict):
        error = error.get("message") or error.get("detail") or error
    return (error if isinstance(error, str) else json.dumps(error))[:500]


def _seconds(retry_after: str | None) -> float | None:
    """Of a header Retry-After, which gives a number of seconds or a date."""
    if not retry_after:
        return None
    try:
        seconds = float(retry_after)
    except ValueError:
        return _seconds_until(retry_after)
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _seconds_until(date: str) -> float | None:
    try:
        at = parsedate_to_datetime(date)
    except ValueError:
        return None
    return max(0.0, (at - clock.now()).total_seconds()) if at.tzinfo else None


class _Head(msgspec.Struct):
    error: Any = None
    type: str | None = None
    response: Any = None


_decode_head = msgspec.json.Decoder(_Head).decode
_FAILURES: Final = frozenset({"error", "response.error", "response.failed"})  # events of the Responses API


def look_at(target: Target, data: bytes) -> None:
    """Raises UpstreamError unless `data` is JSON that is no error: the beginning of an answer, or all of one."""
    try:
        head = _decode_head(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UpstreamError(
            f"Upstream '{target.slug}' sent something that is not a JSON object: {data[:80]!r}",
            code="upstream_garbage",
        ) from error
    if head.error or head.type in _FAILURES:
        raise failure(target, msgspec.json.decode(data), has_begun=False)


def failure(target: Target, event: Mapping[str, Any], *, has_begun: bool = True) -> UpstreamError:
    """What an event means that tells of an error, in any of the shapes that servers use."""
    error = event.get("error") or (event.get("response") or {}).get("error") or event
    said = (error.get("message") if isinstance(error, dict) else error) or "no reason given"
    status = _status_of(error) if isinstance(error, dict) else None
    when = "in the middle of its answer" if has_begun else "instead of answering"
    message = f"Upstream '{target.slug}' failed {when}: {said}"
    return refused(message, status, None) if status in CALLERS_FAULT else UpstreamError(message)


def _status_of(error: Mapping[str, Any]) -> int | None:
    """As a number where servers give one (`code` of llama.cpp, vLLM and OpenRouter), or by OpenAI's words."""
    code, kind = error.get("code"), error.get("type")
    if isinstance(code, int) or (isinstance(code, str) and code.isdigit()):
        return int(code)
    if code == "rate_limit_exceeded":
        return 429
    return 400 if kind == "invalid_request_error" else None
