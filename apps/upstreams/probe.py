"""Asking an LLM server what it has and whether it answers: for operators, never on the road of a chat.

Whatever goes wrong becomes one sentence that says what is wrong and what to do about it.
"""

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import aiohttp
import msgspec
from django.db import transaction
from yarl import URL

from apps.core import clock
from apps.core.errors import (
    InvalidModelOutput,
    UpstreamError,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from apps.core.secrets import SecretUnreadable
from apps.upstreams.models import Kind, Upstream, UpstreamModel

DEMO_MODELS = ["demo"]
LARGEST_ANSWER = 16 * 1024 * 1024  # bytes; the longest public list, a router's with its prices, is 1 MB
LONGEST_NAME = 200  # of a model, as UpstreamModel stores it
MODELS_TIMEOUT = 10.0  # seconds
CHAT_TIMEOUT = 45.0  # seconds: a local server may have to load the model first
RESPONSES_TIMEOUT = 5.0  # seconds: no model is asked
TOOLS_TIMEOUT = 15.0  # seconds: somebody has just saved an agent, and waits

_A_TOOL = {
    "type": "function",
    "function": {
        "name": "get_time",
        "description": "What time it is.",
        "parameters": {"type": "object", "properties": {}},
    },
}

# Models that no chat can use, by the words in their names.
_NO_CHAT = re.compile(
    r"embed|rerank|whisper|transcri|moderation|dall-e|image|realtime|audio|sora|babbage|davinci|"
    r"(^|[-_/:])(tts|bge|e5|gte|clip)([-_:]|$)",
    re.IGNORECASE,
)
# Of OpenAI's hundred models, the first of these that the account has.
_PREFERRED = ("gpt-5-mini", "gpt-4.1-mini", "gpt-4o-mini", "gpt-5", "gpt-4.1", "gpt-4o")


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that a test tried, and what came of it in words."""

    name: str
    passed: bool
    text: str


@dataclass(frozen=True, slots=True)
class Report:
    """What `test_upstream` found. `latency_ms` is the time of the chat completion, None when there was none."""

    models: int
    latency_ms: float | None
    steps: tuple[Step, ...]

    @property
    def passed(self) -> bool:
        return all(step.passed for step in self.steps)


async def read_models(*, base_url: str, secret: str, timeout: float) -> list[str]:  # noqa: ASYNC109  # aiohttp's own, over all
    """The names of the server's models, in its order. `timeout` is in seconds, for everything.

    Takes OpenAI's shape, a bare list, and Ollama's (`{"models": [{"name": ...}]}`). Raises UpstreamError.
    """
    answer = await _ask("GET", base_url, "/models", secret=secret, timeout=timeout)
    return _model_names(answer, base_url)


def refresh_models(upstream: Upstream, *, timeout: float = MODELS_TIMEOUT) -> list[str]:
    """Read the server's list and store it. An unchanged list does not disturb the configuration.

    Fills in a default model when there is none. Raises UpstreamError, with its message stored as the row's last error.
    """
    try:
        names = _read(upstream, timeout)
    except UpstreamError as error:
        _note(upstream, last_error=error.message)
        raise
    return store_models(upstream, names)


def store_models(upstream: Upstream, names: Sequence[str]) -> list[str]:
    """Make the stored list equal to `names`, of which it returns those that can be stored."""
    wanted = list(dict.fromkeys(name for name in names if name and len(name) <= LONGEST_NAME))
    with transaction.atomic():
        stored = dict(upstream.models.values_list("name", "pk"))
        gone = [pk for name, pk in stored.items() if name not in set(wanted)]
        new = [UpstreamModel(upstream=upstream, name=name) for name in wanted if name not in stored]
        if gone:
            UpstreamModel.objects.filter(pk__in=gone).delete()
        if new:
            UpstreamModel.objects.bulk_create(new)
        if not upstream.default_model and (chosen := first_chat_model(wanted)):
            upstream.default_model = chosen
            upstream.save(update_fields=["default_model"])
        _note(upstream, last_error="", models_read_at=clock.now())
    return wanted


def test_upstream(upstream: Upstream) -> Report:
    """Try the server as a chat would: read its models, then one word from the default model. Raises nothing.

    Also whether it has the Responses API, if it is marked so or should be.
    """
    if upstream.kind == Kind.DEMO:
        store_models(upstream, DEMO_MODELS)
        return Report(len(DEMO_MODELS), None, (Step("demo", True, "The built-in demo needs no server."),))
    try:
        names = refresh_models(upstream)
    except UpstreamError as error:
        return Report(0, None, (Step("models", False, error.message),))
    listed = Step("models", bool(names), _counted(names))
    if not upstream.default_model:
        remedy = "No default model is set: choose one of its models, so that agents without a model of their own run."
        return Report(len(names), None, (listed, Step("chat", False, remedy)))
    chat, latency_ms = _try_chat(upstream)
    return Report(len(names), latency_ms, (listed, chat, *_try_responses(upstream)))


def try_tools(upstream: Upstream, model: str, *, timeout: float = TOOLS_TIMEOUT) -> Step:
    """Whether the model takes tools: asked once, for as few tokens as the server lets it. Raises nothing."""
    body = _one_word(upstream) | {"model": model, "tools": [_A_TOOL]}
    try:
        asyncio.run(
            _ask(
                "POST",
                upstream.base_url,
                "/chat/completions",
                secret=_secret_of(upstream),
                timeout=timeout,
                body=body,
            )
        )
    except UpstreamError as error:
        if "tool" in error.message.lower():
            return Step("tools", False, f"{model} does not take tools: {error.message}")
        return Step("tools", False, f"Whether {model} takes tools is not known: {error.message}")
    return Step("tools", True, f"{model} takes tools.")


def first_chat_model(names: Sequence[str]) -> str:
    """The model that a new upstream should use; empty when none of them can chat."""
    usable = [name for name in names if not _NO_CHAT.search(name)]
    return next((name for name in _PREFERRED if name in usable), usable[0] if usable else "")


def _read(upstream: Upstream, timeout: float) -> list[str]:
    if upstream.kind == Kind.DEMO:
        return DEMO_MODELS
    return asyncio.run(read_models(base_url=upstream.base_url, secret=_secret_of(upstream), timeout=timeout))


def _note(upstream: Upstream, **fields: Any) -> None:
    """Store what was observed of the server. It is no configuration, so it wakes nobody."""
    for name, value in fields.items():
        setattr(upstream, name, value)
    Upstream.objects.filter(pk=upstream.pk).unpublished().update(**fields)


def _counted(names: Sequence[str]) -> str:
    if not names:
        return "The server answers, and lists no models: load or pull one there."
    few = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
    return f"The server lists {len(names)} {'model' if len(names) == 1 else 'models'}: {few}"


def _try_chat(upstream: Upstream) -> tuple[Step, float | None]:
    started = perf_counter()
    try:
        answer = asyncio.run(
            _ask(
                "POST",
                upstream.base_url,
                "/chat/completions",
                secret=_secret_of(upstream),
                timeout=CHAT_TIMEOUT,
                body=_one_word(upstream),
            )
        )
    except UpstreamError as error:
        _note(upstream, last_error=error.message)
        return Step("chat", False, error.message), None
    latency_ms = (perf_counter() - started) * 1000
    if not (isinstance(answer, dict) and answer.get("choices")):
        text = f"{upstream.default_model} answered without `choices`: this is no OpenAI-compatible chat completion."
        return Step("chat", False, text), latency_ms
    return Step("chat", True, f"{upstream.default_model} answered in {latency_ms:.0f} ms."), latency_ms


def _try_responses(upstream: Upstream) -> list[Step]:
    has_it = _has_responses(upstream)
    if upstream.speaks_responses and not has_it:
        text = "It is marked as having the Responses API, but has none: switch that off, or check the base URL."
        return [Step("responses", False, text)]
    if upstream.speaks_responses:
        return [Step("responses", True, "It has the Responses API: agents with hosted tools run here.")]
    if has_it:
        text = "It has the Responses API. If it runs hosted tools such as web search itself, mark it as having it."
        return [Step("responses", True, text)]
    return []


def _has_responses(upstream: Upstream) -> bool:
    """Asked with an empty body, which runs no model: who has the API misses something, others know no such path."""
    secret = _secret_of(upstream)
    question = _ask("POST", upstream.base_url, "/responses", secret=secret, timeout=RESPONSES_TIMEOUT, body={})
    try:
        asyncio.run(question)
    except UpstreamRejected as refusal:
        return refusal.status in (400, 422)
    except UpstreamError:
        return False
    return False  # LM Studio answers 200 to whatever it does not know


def _one_word(upstream: Upstream) -> dict[str, Any]:
    body = {"model": upstream.default_model, "messages": [{"role": "user", "content": "Say yes."}]}
    if upstream.kind == Kind.OPENAI:
        # Its newer models know only this name, and refuse a limit that their reasoning cannot stay under.
        return body | {"max_completion_tokens": 16}
    return body | {"max_tokens": 1}


def _secret_of(upstream: Upstream) -> str:
    try:
        return upstream.secret
    except SecretUnreadable as error:
        raise UpstreamRejected(str(error), status=401) from error


async def _ask(
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
        raise UpstreamUnreachable(_why_unreachable(error, base_url)) from error


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
    said = _said(content)
    if status < 400:
        to = response.headers.get("Location", "elsewhere")
        raise UpstreamRejected(f"{base_url} redirects to {to}: enter the address that it redirects to as base URL.")
    if status == 401:
        carried = "Authorization" in response.request_info.headers
        remedy = "The secret is wrong or expired" if carried else "It wants a secret, and none is set"
        raise UpstreamRejected(f"{base_url} answered 401. {remedy}: enter the server's API key.{said}", status=401)
    if status == 403:
        raise UpstreamRejected(f"{base_url} answered 403: its API key may not do this.{said}", status=403)
    if status == 404:
        remedy = "Does the base URL lack its /v1?" if _lacks_version(base_url) else "Check the base URL and the model."
        raise UpstreamRejected(f"{response.url} does not exist (404). {remedy}{said}", status=404)
    if status == 429:
        raise UpstreamRejected(f"{base_url} answered 429: too many requests, or no credit left.{said}", status=429)
    if status < 500:
        raise UpstreamRejected(f"{base_url} refused the request with {status}.{said}", status=status)
    raise UpstreamError(f"{base_url} failed with {status}. Look into that server's log.{said}")


def _json(response: aiohttp.ClientResponse, content: bytes, base_url: str) -> Any:
    try:
        return msgspec.json.decode(content)
    except msgspec.DecodeError as error:
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
    except msgspec.DecodeError:
        return ""
    for name in ("error", "message", "detail"):
        if isinstance(value, dict) and value.get(name):
            value = value[name]
    text = " ".join(value.split()) if isinstance(value, str) else ""
    return f" It says: {text[:300]}" if text else ""


def _model_names(answer: Any, base_url: str) -> list[str]:
    listed = answer
    if isinstance(answer, dict):
        listed = answer.get("data", answer.get("models"))
    if not isinstance(listed, list):
        if isinstance(answer, dict) and "data" in answer:
            return []  # {"data": null}: Ollama without a model
        raise InvalidModelOutput(f"{base_url} does not answer with a list of models. Does the base URL lack its /v1?")
    names = (_model_name(entry) for entry in listed)
    return [name for name in names if name]


def _model_name(entry: Any) -> str:
    if isinstance(entry, dict):
        entry = entry.get("id") or entry.get("name") or entry.get("model")
    return entry.strip() if isinstance(entry, str) else ""
