"""One question to an LLM server, for operators: a JSON value back, or one sentence of what is wrong and what to do."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import aiohttp
import msgspec
from yarl import URL

from apps.core.errors import (
    InvalidModelOutput,
    UpstreamError,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from apps.core.json import UNREADABLE

LARGEST_ANSWER = 16 * 1024 * 1024  # bytes; the longest public list, a router's with its prices, is 1 MB


def shown_url(url: str) -> str:
    """An address as it may be shown: without the user name, password and query that somebody may have put into it."""
    try:
        parts = urlsplit(url)
    except ValueError:  # no URL; whoever asks there is told so
        return url
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


async def ask_json(
    method: str,
    base_url: str,
    path: str,
    *,
    secret: str,
    timeout: float,  # noqa: ASYNC109  # aiohttp's own, over all
    body: Mapping[str, Any] | None = None,
) -> Any:
    """One request, one JSON value. Raises UpstreamError; nothing of aiohttp leaves here."""
    url = base_url.rstrip("/") + path
    base_url = shown_url(base_url)
    headers = {"Accept": "application/json"} | ({"Authorization": f"Bearer {secret}"} if secret else {})
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=timeout)) as session,
            session.request(method, url, headers=headers, json=body, allow_redirects=False) as response,
        ):
            content = await _content(response)
            _refuse_status(response, content, base_url)
            return _json(response, content, base_url)
    except TimeoutError as error:
        raise UpstreamTimeout(
            f"{base_url} did not answer within {timeout:g} s. Is the server busy loading a model, or behind a firewall?"
        ) from error
    except (aiohttp.ClientError, ValueError, OSError) as error:  # ValueError: a URL or a secret that HTTP cannot carry
        unreachable = UpstreamUnreachable(_why_unreachable(error, base_url))
        unreachable.reached = False
        raise unreachable from error


async def _content(response: aiohttp.ClientResponse) -> bytes:
    content = bytearray()
    async for part in response.content.iter_any():
        content += part
        if len(content) > LARGEST_ANSWER:
            raise InvalidModelOutput(f"{response.url} sends more than 16 MB. Is this the address of an LLM server?")
    return bytes(content)


def _why_unreachable(error: Exception, base_url: str) -> str:
    match error:
        case aiohttp.InvalidURL() | aiohttp.NonHttpUrlClientError():
            text = f"{base_url} is not a usable address. It should look like http://127.0.0.1:11434/v1."
        case aiohttp.ClientConnectorDNSError():
            text = f"The host name of {base_url} is not known here. Check its spelling, and this machine's DNS."
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientConnectorSSLError():
            text = f"No secure connection to {base_url}: {error}. Should it begin with http://, or is its CA unknown?"
        case aiohttp.ClientConnectorError() if _is_refusal(error):
            text = f"Nothing listens at {base_url}; is the server started?{_container_hint(base_url)}"
        case aiohttp.ClientConnectorError():
            text = f"{base_url} cannot be reached ({error.strerror or error}). Check the address and the network."
        case aiohttp.ClientError() | OSError():
            text = f"{base_url} closed the connection without an answer ({error}). Is it an HTTP server?"
        case _:
            text = f"The request to {base_url} cannot be sent: {error}. Check the base URL and the secret."
    return text


def _is_refusal(error: aiohttp.ClientConnectorError) -> bool:
    return isinstance(error.os_error, ConnectionRefusedError) or "refused" in str(error).lower()


def _container_hint(base_url: str) -> str:
    if URL(base_url).host in {"localhost", "127.0.0.1", "::1"}:
        return " (Inside a container, 127.0.0.1 is the container: use host.docker.internal or the service's name.)"
    return ""


def _refuse_status(response: aiohttp.ClientResponse, content: bytes, base_url: str) -> None:
    status = response.status
    if status < 300:
        return
    text = _refusal(response, base_url) + _said(content)
    code = "upstream_unauthorised" if status in (401, 403) else None
    told = status if status >= 400 else 502
    refusal = UpstreamError(text) if status >= 500 else UpstreamRejected(text, status=told, code=code)
    refusal.answered = status
    raise refusal


def _refusal(response: aiohttp.ClientResponse, base_url: str) -> str:
    match response.status:
        case status if status < 400:
            to = response.headers.get("Location", "elsewhere")
            text = f"{base_url} redirects to {to}: enter the address that it redirects to as base URL."
        case 401:
            carried = "Authorization" in response.request_info.headers
            remedy = "The secret is wrong or expired" if carried else "It wants a secret, and none is set"
            text = f"{base_url} answered 401. {remedy}: enter the server's API key."
        case 403:
            text = f"{base_url} answered 403: its API key may not do this."
        case 404:
            lacks = _lacks_version(base_url)
            remedy = "Does the base URL lack its /v1?" if lacks else "Check the base URL and the model."
            text = f"{response.url} does not exist (404). {remedy}"
        case 429:
            text = f"{base_url} answered 429: too many requests, or no credit left."
        case 503:  # llama.cpp while it loads its model; others when they are overloaded
            text = f"{base_url} is not ready (503): it still loads, or has too much to do."
        case status if status < 500:
            text = f"{base_url} refused the request with {status}."
        case status:
            text = f"{base_url} failed with {status}. Look into that server's log."
    return text


def _json(response: aiohttp.ClientResponse, content: bytes, base_url: str) -> Any:
    try:
        return msgspec.json.decode(content)
    except UNREADABLE as error:
        if b"<html" in content[:1000].lower() or response.content_type == "text/html":
            reason = "answers with a web page"
        else:
            reason = "does not answer with JSON"
        remedy = "The base URL probably lacks /v1." if _lacks_version(base_url) else "Is this an LLM server's address?"
        raise InvalidModelOutput(f"{base_url} {reason}. {remedy}") from error


def _lacks_version(base_url: str) -> bool:
    return not re.search(r"/v\d+\w*(/|$)", base_url)


def _said(content: bytes) -> str:
    """The server's own words, from whichever shape its errors have; empty when they are none for people."""
    try:
        value = msgspec.json.decode(content)
    except UNREADABLE:
        return ""
    for name in ("error", "message", "detail"):
        if isinstance(value, dict) and value.get(name):
            value = value[name]
    text = " ".join(value.split()) if isinstance(value, str) else ""
    return f" It says: {text[:300]}" if text else ""
