"""The one HTTP road to LLM servers: a request is posted, the server-sent events of its answer come back as raw JSON.

aiohttp, because its cost per call is a fifth of httpx's. One session per event loop: a pool must not be shared between
loops, and a drop-in may run its own loop in a tool's thread.
"""

import asyncio
import errno
import math
import socket
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from functools import lru_cache, partial
from typing import Any, Final, TypeVar
from weakref import WeakKeyDictionary

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import HttpProcessingError
from yarl import URL

from apps.core.errors import UpstreamError, UpstreamRejected, UpstreamTimeout, UpstreamUnreachable
from apps.core.json import encode
from apps.upstreams import demo
from apps.upstreams.answer_stream import BYTE_ORDER_MARK, AnswerStream, all_of
from apps.upstreams.calls import current_calls
from apps.upstreams.capacity import Place
from apps.upstreams.models import Kind
from apps.upstreams.refusals import look_at, refusal
from apps.upstreams.routing import Target

_DEMO_PAUSE: Final = 0.012  # seconds between the demo's words, so that streaming can be seen

_LONGEST_REFUSAL: Final = 64 * 1024  # bytes of it that are read

Answer = TypeVar("Answer")

_sessions: WeakKeyDictionary[asyncio.AbstractEventLoop, aiohttp.ClientSession] = WeakKeyDictionary()


class _Protocol(ResponseHandler):
    """Tells whoever reads an answer that its HTTP has become unreadable (a proxy wrote an error into its midst).

    aiohttp 3.14 does not: its parser lets go of the answer, the connection is closed, and the reader waits for ever.
    """

    def set_exception(self, exc: BaseException, *cause: BaseException) -> None:
        super().set_exception(exc, *cause)
        if isinstance(exc, HttpProcessingError) and self._payload is not None and not self._payload.is_eof():
            self._payload.set_exception(aiohttp.ClientPayloadError(exc.message))


class _Connector(aiohttp.TCPConnector):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        make: Callable[..., ResponseHandler] = _Protocol
        self._factory = partial(make, loop=self._loop)


def _new_session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        # Shorter than the 5 s after which uvicorn, Node and llama.cpp close an idle connection: who reuses one in that
        # very moment gets no answer.
        connector=_Connector(limit=0, keepalive_timeout=4, ttl_dns_cache=60),
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
    """Post a request for a whole answer, a JSON object of at most MAX_ANSWER bytes. Raises as `open_stream` does."""
    if _is_built_in(target):
        return encode(_by_demo(demo.completion, target, path, body))
    session, own_session = _session()
    response = None
    try:
        response = await _post(session, target, path, body, headers, query, patience)
        await _accept(target, response)
        answer = await all_of(target, response)  # to its end, with which the connection goes back
    except BaseException as error:
        if response is not None:
            response.close()
        if isinstance(error, TimeoutError):
            raise UpstreamTimeout(f"Upstream '{target.slug}' did not answer within {patience:.3g} s.") from error
        raise
    finally:
        if own_session:
            await own_session.close()
    answer = answer.removeprefix(BYTE_ORDER_MARK)
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


async def _post(
    session: aiohttp.ClientSession,
    target: Target,
    path: str,
    body: dict[str, Any],
    headers: Mapping[str, str],
    query: Mapping[str, Any],
    patience: float | None = None,
) -> aiohttp.ClientResponse:
    """The head of the answer. Raises UpstreamError; TimeoutError, here or later, when not all of it came in time."""
    own = {"Content-Type": "application/json"}
    if target.secret:
        own["Authorization"] = f"Bearer {target.secret}"
    run = current_calls.set(None)  # aiohttp's tasks are no code of the run's, which would be contained
    try:
        return await session.post(
            _url(target.base_url, path),
            data=aiohttp.BytesPayload(encode(body)),  # what aiohttp would make of it, after a look at each of its kinds
            headers={**headers, **own} if headers else own,
            params=query or None,
            allow_redirects=False,
            timeout=_timeout(target.connect_timeout, None if patience is None else _in_hundredths(patience)),
        )
    except aiohttp.ServerTimeoutError as error:
        raise _unreached(
            UpstreamTimeout(
                f"Upstream '{target.slug}' did not accept a connection within {target.connect_timeout:g} s."
            )
        ) from error
    except aiohttp.ClientConnectorError as error:
        raise _unreached(
            UpstreamUnreachable(f"Upstream '{target.slug}' cannot be reached: {_why_unreached(error)}")
        ) from error
    except aiohttp.ClientResponseError as error:  # there is no status yet: its head could not be read
        said = " ".join(error.message.split())[:80]
        raise UpstreamError(
            f"Upstream '{target.slug}' sent something that is not HTTP: {said}", code="upstream_garbage"
        ) from error
    except TimeoutError:  # an OSError, which the next would take it for
        raise
    except (aiohttp.ClientError, OSError) as error:
        raise UpstreamUnreachable(
            f"Upstream '{target.slug}' closed the connection without an answer ({type(error).__name__})."
        ) from error
    finally:
        current_calls.reset(run)


@lru_cache(maxsize=1000)
def _url(base_url: str, path: str) -> URL:
    """Parsed once: every call of an upstream goes to one of two or three."""
    try:
        return URL(f"{base_url}{path}")
    except ValueError as error:
        raise aiohttp.InvalidURL(f"{base_url}{path}", str(error)) from error


@lru_cache(maxsize=1000)
def _timeout(connect: float, over_all: float | None) -> aiohttp.ClientTimeout:
    """To the moment: aiohttp would round what is over five seconds up to whole ones."""
    return aiohttp.ClientTimeout(total=over_all, sock_connect=connect, ceil_threshold=math.inf)


def _in_hundredths(patience: float) -> float:
    """So that those of most calls are the same. Never 0, which aiohttp takes for no limit."""
    return max(round(patience, 2), 0.01)


def _why_unreached(error: aiohttp.ClientConnectorError) -> str:
    match error:
        case aiohttp.ClientConnectorCertificateError():
            return f"its certificate is not to be trusted ({error.certificate_error}). Is its CA known here?"
        case aiohttp.ClientConnectorSSLError():
            return "it answers without TLS. Should its base URL begin with http://?"
        case aiohttp.ClientConnectorError(os_error=socket.gaierror()):
            return "its host name is not known. Is the server started?"
        case aiohttp.ClientConnectorError(os_error=OSError(errno=errno.EMFILE | errno.ENFILE)):
            return "this process has no file descriptor left. Raise its limit of open files."
        case _:
            return "nothing listens there. Is the server started?"


def _unreached(error: UpstreamError) -> UpstreamError:
    error.reached = False
    return error


async def _accept(target: Target, response: aiohttp.ClientResponse) -> None:
    """Raises what a refusal means; an accepted answer is left to be read."""
    if response.status == 200:
        if not response.headers.get("Content-Type", "").lstrip().lower().startswith("text/html"):
            return
        response.close()
        raise UpstreamError(
            f"Upstream '{target.slug}' answered with a web page instead of a chat completion. "
            "Its base URL probably lacks /v1, or a proxy stands in between."
        )
    said = bytearray()
    try:
        async with asyncio.timeout(5):
            while len(said) < _LONGEST_REFUSAL and (piece := await response.content.read(_LONGEST_REFUSAL)):
                said += piece
    except (TimeoutError, aiohttp.ClientError):
        pass  # what came of it says what it says
    finally:
        response.close()
    raise refusal(target, response.status, response.headers, said.decode("utf-8", "replace"))
