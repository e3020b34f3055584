"""The one HTTP road to LLM servers: a request is posted, the server-sent events of its answer come back as raw JSON.

aiohttp, because its cost per call is a fifth of httpx's. One session per event loop: a pool must not be shared between
loops, and a drop-in may run its own loop in a tool's thread.
"""

import asyncio
import json
import math
import socket
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final
from weakref import WeakKeyDictionary

import aiohttp

from apps.core.errors import UpstreamError, UpstreamRejected, UpstreamTimeout, UpstreamUnreachable
from apps.core.json import encode
from apps.upstreams import demo
from apps.upstreams.models import Kind
from apps.upstreams.routing import Target

# Statuses that tell the caller something about its own request; everything else of 4xx is between us and the server.
CALLERS_FAULT: Final = frozenset({400, 404, 413, 422, 429})
_MAX_LINE = 32 * 1024 * 1024
_DONE: Final = b"[DONE]"
_DEMO_PAUSE = 0.012  # seconds between the demo's words, so that streaming can be seen

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

    Whoever has one must `aclose()` it; closing early ends the connection.
    """

    def __init__(
        self, target: Target, response: aiohttp.ClientResponse, own_session: aiohttp.ClientSession | None
    ) -> None:
        self._target = target
        self._response = response
        self._own_session = own_session
        self.is_complete = False  # the server said [DONE]

    def __aiter__(self) -> AsyncIterator[list[bytes]]:
        return self._events()

    async def aclose(self) -> None:
        self._response.close()
        if self._own_session:
            await self._own_session.close()

    async def _events(self) -> AsyncIterator[list[bytes]]:
        rest = b""
        patience = self._target.first_event_timeout
        while data := await self._read(patience):
            patience = self._target.silence_timeout
            # Split on the line feed alone: U+2028 and friends may stand inside a JSON string.
            lines = (rest + data).split(b"\n") if rest else data.split(b"\n")
            rest = lines.pop()
            if len(rest) > _MAX_LINE:
                raise UpstreamError(f"Upstream '{self._target.slug}' sent a line of over {_MAX_LINE} bytes.")
            if events := self._events_in(lines):
                yield events
            if self.is_complete:
                await self.finish()
                return
        if event := rest.removeprefix(b"data:").strip():
            if event == _DONE:
                self.is_complete = True
            else:  # the last line lacks its end, or a server that knows no streams sent the whole answer
                yield [event]

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

    async def _read(self, patience: float) -> bytes:
        content = self._response.content
        try:
            if waiting := content.read_nowait():  # spares a timer where nothing is waited for
                return waiting
            async with asyncio.timeout(patience):
                return await content.readany()
        except TimeoutError as error:
            raise UpstreamTimeout(
                f"Upstream '{self._target.slug}' was silent for {patience:g} s in the middle of its answer.",
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

    def __init__(self, body: dict[str, Any]) -> None:
        self._chunks = demo.chunks(body)

    async def __aiter__(self) -> AsyncIterator[list[bytes]]:
        for chunk in self._chunks:
            yield [encode(chunk)]
            await asyncio.sleep(_DEMO_PAUSE)

    async def aclose(self) -> None:
        return


async def open_chat(
    target: Target,
    body: dict[str, Any],
    *,
    headers: Mapping[str, str] | None = None,
    query: Mapping[str, Any] | None = None,
) -> AnswerStream | _DemoStream:
    """Post a streamed chat completion; returns when the server has accepted it. `headers` and `query` are the caller's.

    Raises UpstreamUnreachable, UpstreamTimeout, UpstreamRejected (the caller's fault, with the server's status and
    message) or UpstreamError (the server's or the operator's).
    """
    if target.kind == Kind.DEMO and not target.base_url:
        return _open_demo(body)
    return await _open(target, "/chat/completions", body, headers or {}, query or {})


async def open_responses(
    target: Target,
    body: dict[str, Any],
    *,
    headers: Mapping[str, str] | None = None,
    query: Mapping[str, Any] | None = None,
) -> AnswerStream:
    """The same for a streamed request to the Responses API."""
    return await _open(target, "/responses", body, headers or {}, query or {})


async def _open(
    target: Target, path: str, body: dict[str, Any], headers: Mapping[str, str], query: Mapping[str, Any]
) -> AnswerStream:
    session = _sessions.get(asyncio.get_running_loop())
    own_session = None
    if session is None:
        session = own_session = _new_session()
    try:
        response = await _post(session, target, path, body, headers, query)
        await _accept(target, response)
    except BaseException:
        if own_session:
            await own_session.close()
        raise
    return AnswerStream(target, response, own_session)


def _open_demo(body: dict[str, Any]) -> _DemoStream:
    try:
        return _DemoStream(body)
    except demo.DemoRequestError as error:
        raise UpstreamRejected(str(error), status=400) from error


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
        async with asyncio.timeout(target.first_event_timeout):
            return await session.post(
                f"{target.base_url}{path}",
                data=encode(body),
                headers={**headers, **own},
                params=query,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=target.connect_timeout),
            )
    except (aiohttp.ServerTimeoutError, TimeoutError) as error:
        connecting = isinstance(error, aiohttp.ServerTimeoutError)
        seconds = target.connect_timeout if connecting else target.first_event_timeout
        what = "accept a connection" if connecting else "begin to answer"
        raise UpstreamTimeout(f"Upstream '{target.slug}' did not {what} within {seconds:g} s.") from error
    except aiohttp.ClientConnectorError as error:
        why = "its host name is not known" if isinstance(error.os_error, socket.gaierror) else "nothing listens there"
        raise UpstreamUnreachable(
            f"Upstream '{target.slug}' cannot be reached: {why}. Is the server started?"
        ) from error
    except (aiohttp.ClientError, OSError) as error:
        raise UpstreamUnreachable(
            f"Upstream '{target.slug}' closed the connection without an answer ({type(error).__name__})."
        ) from error


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
    if status not in CALLERS_FAULT:
        return UpstreamError(f"Upstream '{target.slug}' failed with status {status}: {said or 'no reason given'}")
    message = f"Upstream '{target.slug}' says: {said or f'status {status}'}"
    return refused(message, status, response.headers.get("Retry-After"))


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
    try:
        seconds = float(retry_after or "nan")
    except ValueError:  # the HTTP-date form: rare, and the caller's own back-off will do
        return None
    return max(0.0, seconds) if math.isfinite(seconds) else None
