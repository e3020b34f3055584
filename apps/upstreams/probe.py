"""Asking an LLM server what it has and whether it answers: for operators, never on the road of a chat.

Whatever goes wrong becomes one sentence that says what is wrong and what to do about it.
"""

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from django.db import transaction

from apps.core import clock
from apps.core.errors import InvalidModelOutput, UpstreamError, UpstreamRejected, UpstreamUnreachable
from apps.core.secrets import SecretUnreadable
from apps.upstreams.asking import ask_json
from apps.upstreams.models import Kind, Upstream, UpstreamModel

DEMO_MODELS = ["demo"]
LONGEST_NAME = 200  # of a model, as UpstreamModel stores it
MODELS_TIMEOUT = 10.0  # seconds
CHAT_TIMEOUT = 45.0  # seconds: a local server may have to load the model first
RESPONSES_TIMEOUT = 5.0  # seconds: no model is asked
_NO_LIST = (400, 404, 405, 422, 500, 501)  # how servers without a list of models answer
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


@dataclass(frozen=True, slots=True)
class ModelList:
    """What a server lists. `owners` are its words: llamacpp, vllm, library (Ollama), a company."""

    names: list[str]
    owners: frozenset[str] = frozenset()


async def read_models(*, base_url: str, secret: str, timeout: float) -> list[str]:  # noqa: ASYNC109  # aiohttp's own, over all
    """The names of the server's models, in its order. `timeout` is in seconds, for everything.

    Takes OpenAI's shape, a bare list, and Ollama's (`{"models": [{"name": ...}]}`). Raises UpstreamError.
    """
    return (await read_list(base_url=base_url, secret=secret, timeout=timeout)).names


async def read_list(*, base_url: str, secret: str, timeout: float) -> ModelList:  # noqa: ASYNC109  # as above
    """The same, and whom the server says its models are owned by. Raises UpstreamError."""
    answer = await ask_json("GET", base_url, "/models", secret=secret, timeout=timeout)
    return ModelList(_model_names(answer, base_url), _owners(answer))


async def ask_models(upstream: Upstream, *, timeout: float = MODELS_TIMEOUT) -> list[str]:  # noqa: ASYNC109
    """The models of this upstream; none of one that is marked as listing none. No database. Raises UpstreamError."""
    if upstream.kind == Kind.DEMO:
        return DEMO_MODELS
    try:
        return await read_models(base_url=upstream.base_url, secret=_secret_of(upstream), timeout=timeout)
    except UpstreamError as error:
        if not upstream.lists_models and error.answered in _NO_LIST:
            return []
        raise


def refresh_models(upstream: Upstream, *, timeout: float = MODELS_TIMEOUT) -> list[str]:
    """Read the server's list and store it. An unchanged list does not disturb the configuration.

    Fills in a default model when there is none. Raises UpstreamError, with its message stored as the row's last error.
    """
    try:
        names = asyncio.run(ask_models(upstream, timeout=timeout))
    except UpstreamError as error:
        note_failure(upstream, error)
        raise
    return store_answer(upstream, names)


def note_failure(upstream: Upstream, error: UpstreamError) -> None:
    """Store why it did not answer. The list of its models stays as it was."""
    _note(upstream, last_error=error.message, last_error_code=error.code, answered_at=clock.now())


def last_failure(upstream: Upstream) -> UpstreamError | None:
    """What `note_failure` stored, perhaps in another process; None where all was well."""
    if not upstream.last_error:
        return None
    error = UpstreamError(upstream.last_error, code=upstream.last_error_code or None)
    error.reached = error.code != UpstreamUnreachable.code
    return error


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
        _note(upstream, last_error="", last_error_code="", models_read_at=clock.now())
    return wanted


def store_answer(upstream: Upstream, names: Sequence[str]) -> list[str]:
    """`store_models`, of names that the server has just told: a sign of life, which workers hear of."""
    stored = store_models(upstream, names)
    now = clock.now()
    _note(upstream, asked_at=now, answered_at=now)
    return stored


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
    listed = Step("models", bool(names) or not upstream.lists_models, _counted(upstream, names))
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
            ask_json(
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


def _note(upstream: Upstream, **fields: Any) -> None:
    """Store what was observed of the server. It is no configuration, so it wakes nobody."""
    for name, value in fields.items():
        setattr(upstream, name, value)
    Upstream.objects.filter(pk=upstream.pk).unpublished().update(**fields)


def _counted(upstream: Upstream, names: Sequence[str]) -> str:
    if not names and not upstream.lists_models:
        return "The server answers; it is marked as listing no models."
    if not names:
        return "The server answers, and lists no models: load or pull one there."
    few = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
    return f"The server lists {len(names)} {'model' if len(names) == 1 else 'models'}: {few}"


def _try_chat(upstream: Upstream) -> tuple[Step, float | None]:
    started = perf_counter()
    try:
        answer = asyncio.run(
            ask_json(
                "POST",
                upstream.base_url,
                "/chat/completions",
                secret=_secret_of(upstream),
                timeout=CHAT_TIMEOUT,
                body=_one_word(upstream),
            )
        )
    except UpstreamError as error:
        note_failure(upstream, error)
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
    question = ask_json("POST", upstream.base_url, "/responses", secret=secret, timeout=RESPONSES_TIMEOUT, body={})
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


def _owners(answer: Any) -> frozenset[str]:
    listed = answer.get("data") if isinstance(answer, dict) else answer
    entries = listed if isinstance(listed, list) else []
    owners = (entry.get("owned_by") for entry in entries if isinstance(entry, dict))
    return frozenset(owner for owner in owners if isinstance(owner, str))
