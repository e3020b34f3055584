"""Tools that are an HTTP request: filled in from the arguments, sent to a host that may be asked, answered as text.

What the server says is not trusted: redirects are told and not followed, an answer is read up to a size whether it is
compressed or not, and addresses are judged at the connection (safe_hosts.py).
"""

import asyncio
import socket
import zlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

import aiohttp
import jmespath
import msgspec
from jmespath.exceptions import JMESPathError
from yarl import URL

from apps.core.json import encode
from apps.tools import safe_hosts, template
from apps.tools.tool import CallFailed, HttpCall

MOST_BYTES: Final = 4 * 1024 * 1024  # of an answer of which a part is taken
_BEYOND: Final = 16 * 1024  # read past the cut, so that no secret is cut in two: invoke.py masks it before
_IN_THREAD: Final = 128 * 1024  # bytes of JSON that would keep the event loop busy
_EXCERPT: Final = 500  # characters of a refusal
_MAY_PASS: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_FORM: Final = "application/x-www-form-urlencoded"

# One for public hosts and one for all, by `allow_private_hosts`: a connection that may be used again was judged for its
# own pool alone.
_Pools = dict[bool, aiohttp.ClientSession]
_pools: WeakKeyDictionary[asyncio.AbstractEventLoop, _Pools] = WeakKeyDictionary()


def _new_session(allow_private_hosts: bool) -> aiohttp.ClientSession:
    guard = None if allow_private_hosts else safe_hosts.public_socket
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=4, ttl_dns_cache=10, socket_factory=guard),
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None),
        trust_env=False,  # a proxy would make the connection, unjudged
        headers={"Accept-Encoding": "identity", "User-Agent": "agent-gateway", "Accept": "application/json, */*;q=0.5"},
    )


def open_sessions() -> None:
    """Give the running loop pools of its own until `close_sessions`. Called once by a server process."""
    _pools[asyncio.get_running_loop()] = {allowed: _new_session(allowed) for allowed in (False, True)}


async def close_sessions() -> None:
    for session in _pools.pop(asyncio.get_running_loop(), {}).values():
        await session.close()


@asynccontextmanager
async def _session(allow_private_hosts: bool) -> AsyncIterator[aiohttp.ClientSession]:
    pools = _pools.get(asyncio.get_running_loop())
    if pools:
        yield pools[allow_private_hosts]
        return
    async with _new_session(allow_private_hosts) as session:
        yield session


# --- a call ----------------------------------------------------------------------------------------------------------


async def call(how: HttpCall, arguments: Mapping[str, Any], schema: Mapping[str, Any], most_bytes: int) -> str:
    """What the model is given of the answer; of a long one more than `most_bytes`, to be cut. Raises CallFailed."""
    url, headers, data = _request(how, arguments, frozenset(schema.get("properties", ())))
    async with _asked(how.method, url, headers, data, allow_private_hosts=how.allow_private_hosts) as response:
        await _refuse_failure(response)
        if how.extract:
            body = await _read(response, MOST_BYTES)
            return await _extracted(how.extract, _whole(body, MOST_BYTES))
        return _as_text(response, await _read(response, most_bytes + _BEYOND))


def _request(how: HttpCall, arguments: Mapping[str, Any], known: frozenset[str]) -> tuple[str, dict[str, str], bytes]:
    """The URL, the headers and the body. Raises CallFailed."""
    url = template.fill_url(how.url, arguments)
    own = template.fill_headers(how.headers, arguments)
    headers = {**own, **how.secret_headers}
    used = {*template.holes(how.url), *template.holes(dict(how.headers))}
    rest = {name: value for name, value in arguments.items() if name not in used}
    if how.body is not None:
        return url, *_with_body(headers, template.fill_json(how.body, arguments, known))
    if how.method in ("GET", "DELETE"):
        query = template.query_of(rest)
        return url + (f"{'&' if '?' in url else '?'}{query}" if query else ""), headers, b""
    return url, *_with_body(headers, rest)


def _with_body(headers: dict[str, str], body: Any) -> tuple[dict[str, str], bytes]:
    given = next((value for name, value in headers.items() if name.lower() == "content-type"), "")
    if given.partition(";")[0].strip().lower() == _FORM and isinstance(body, dict):
        return headers, template.query_of(body).encode()
    return (headers if given else {**headers, "Content-Type": "application/json"}), encode(body)


@asynccontextmanager
async def _asked(
    method: str, url: str, headers: Mapping[str, str], data: bytes, *, allow_private_hosts: bool
) -> AsyncIterator[aiohttp.ClientResponse]:
    target = _encoded(url)
    host = target.host or ""
    if not safe_hosts.may_be_asked(host):
        raise CallFailed(f"the gateway may not ask {host}: GATEWAY_TOOL_HOSTS does not name it.", outcome="refused")
    async with _session(allow_private_hosts) as session:
        try:
            response = await session.request(method, target, headers=headers, data=data or None, allow_redirects=False)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise _not_reached(host, error) from error
        try:
            yield response
        except (aiohttp.ClientError, OSError) as error:
            raise CallFailed(f"{host} closed the connection in the middle of its answer.", may_retry=True) from error
        finally:
            response.close()  # one that was read to its end has given its connection back


def _encoded(url: str) -> URL:
    """As it was filled in; only a host in other letters is put into those of the DNS. Raises CallFailed."""
    parts = urlsplit(url)
    try:
        origin = URL(f"{parts.scheme}://{parts.netloc}").origin()
    except ValueError as error:
        raise CallFailed(f"its URL names no host that can be asked ({error}).", outcome="misconfigured") from error
    return URL(f"{origin}{url[len(parts.scheme) + 3 + len(parts.netloc) :]}", encoded=True)


def _not_reached(host: str, error: Exception) -> CallFailed:
    if isinstance(error, aiohttp.InvalidURL) or not isinstance(error, aiohttp.ClientError | OSError):
        return CallFailed("its URL or a header cannot be sent as it is.", outcome="misconfigured")
    if isinstance(error, aiohttp.ClientConnectorError):
        if isinstance(error.os_error, safe_hosts.AddressRefused):
            return CallFailed(f"{host} is no public host, and this tool may ask no other.", outcome="refused")
        unknown = isinstance(error.os_error, socket.gaierror)
        why = "its name is not known" if unknown else "nothing answers there"
        return CallFailed(f"{host} cannot be reached: {why}.", outcome="unreachable", may_retry=True)
    return CallFailed(
        f"{host} closed the connection without an answer ({type(error).__name__}).",
        outcome="unreachable",
        may_retry=True,
    )


# --- the answer ------------------------------------------------------------------------------------------------------


async def _refuse_failure(response: aiohttp.ClientResponse) -> None:
    """Raises CallFailed for what is no success."""
    status, host = response.status, response.url.host
    if 300 <= status < 400:
        raise CallFailed(f"{host} redirects{_target(response)}, which is not followed.", outcome=_family(status))
    if status >= 400:
        text = (await _read(response, _BEYOND)).decode(_charset(response), "replace").strip()
        excerpt = " ".join(text.split())[:_EXCERPT] if "\0" not in text else ""
        raise CallFailed(
            f"{host} answered {status} {response.reason or ''}".rstrip() + (f": {excerpt}" if excerpt else "."),
            outcome=_family(status),
            may_retry=status in _MAY_PASS,
            retry_after=_seconds(response.headers.get("Retry-After", "")),
        )


def _family(status: int) -> str:
    return f"http_{status // 100}xx"


def _target(response: aiohttp.ClientResponse) -> str:
    """Without the query, in which tokens travel."""
    target = urlsplit(response.headers.get("Location", ""))
    where = f"{target.scheme}://{target.hostname}" if target.hostname else ""
    return f" to {where}{target.path}" if where or target.path else ""


def _seconds(retry_after: str) -> float | None:
    return float(retry_after) if retry_after.isdecimal() else None


async def _read(response: aiohttp.ClientResponse, most: int) -> bytes:
    """At most one byte more than `most`, decompressed. Raises CallFailed."""
    unpacked = _unpacker(response)
    body = bytearray()
    async for packed in response.content.iter_chunked(64 * 1024):
        body += unpacked(packed, most + 1 - len(body))
        if len(body) > most:
            break
    return bytes(body)


def _unpacker(response: aiohttp.ClientResponse) -> Any:
    """A function of bytes and the most that it may give: a little that unpacks to a lot is never unpacked whole."""
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding in ("", "identity"):
        return lambda packed, _: packed
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise CallFailed(f"the server compresses its answer ({encoding[:40]}), which was not asked for.")
    unpacking = zlib.decompressobj(wbits=47 if "gzip" in encoding else 15)

    def unpack(packed: bytes, most: int) -> bytes:
        try:
            return unpacking.decompress(packed, most)
        except zlib.error as error:
            raise CallFailed("the server's compressed answer cannot be unpacked.", may_retry=True) from error

    return unpack


def _charset(response: aiohttp.ClientResponse) -> str:
    charset = response.charset or "utf-8"
    try:
        "".encode(charset)
    except (LookupError, UnicodeError):
        return "utf-8"
    return charset


def _as_text(response: aiohttp.ClientResponse, body: bytes) -> str:
    """Raises CallFailed for what is no text."""
    if not body:
        return f"It succeeded (status {response.status}); the answer is empty."
    kind = response.content_type
    text = body.decode(_charset(response), "replace")
    if "\0" in text or text.count("�") > len(text) // 10:
        raise CallFailed(f"the answer is no text but {kind}.", outcome="no_text")
    if kind in ("text/html", "application/xhtml+xml"):
        return f"(The server answered with a web page.)\n{text}"
    return text


def _whole(body: bytes, most: int) -> bytes:
    if len(body) > most:
        raise CallFailed(f"the answer is longer than {most} bytes. Ask for less.", outcome="too_large")
    return body


async def _extracted(expression: str, body: bytes) -> str:
    """Raises CallFailed."""
    if len(body) > _IN_THREAD:
        return await asyncio.to_thread(_extract, expression, body)
    return _extract(expression, body)


def _extract(expression: str, body: bytes) -> str:
    try:
        found = jmespath.search(expression, msgspec.json.decode(body))
    except (msgspec.DecodeError, RecursionError) as error:
        raise CallFailed("the answer is no JSON, of which a part was to be taken.", outcome="no_json") from error
    except JMESPathError as error:
        raise CallFailed(f"the answer does not fit '{expression}'.", outcome="misconfigured") from error
    if found is None:
        return f"The answer has nothing at '{expression}'."
    return found if isinstance(found, str) else encode(found).decode(errors="replace")


# --- documents -------------------------------------------------------------------------------------------------------


async def fetch_text(url: str, *, most_bytes: int, seconds: float, allow_private_hosts: bool) -> str:
    """A document that an operator names, under the same bounds. Raises CallFailed."""
    try:
        async with (
            asyncio.timeout(seconds),
            _asked("GET", url, {}, b"", allow_private_hosts=allow_private_hosts) as response,
        ):
            await _refuse_failure(response)
            return _whole(await _read(response, most_bytes), most_bytes).decode(_charset(response), "replace")
    except TimeoutError as error:
        raise CallFailed(f"it did not answer within {seconds:g} s.", outcome="timeout") from error
