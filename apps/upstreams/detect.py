"""The first start: which LLM servers are there already, so that a first chat needs no configuration."""

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from urllib.parse import urlsplit

from django.conf import settings
from django.db import transaction

from apps.core.errors import UpstreamError
from apps.upstreams import probe
from apps.upstreams.asking import shown_url
from apps.upstreams.models import Kind, Upstream

LOCAL_TIMEOUT = 1.0  # seconds: a server on this machine that is there answers at once
REMOTE_TIMEOUT = 5.0
DEMO_SLUG = "demo"

_LOCAL_MODEL = MappingProxyType(
    {
        "takes_reasoning_effort": False,
        "takes_verbosity": False,
        "takes_developer_role": False,
        "takes_several_system_messages": False,  # their chat templates decide, and the strict ones refuse
        "speaks_responses": False,  # where it exists, it runs no hosted tools
    }
)
_EVERYTHING: Mapping[str, bool] = MappingProxyType(dict.fromkeys(_LOCAL_MODEL, True))
# A provider's passing failures are many and short. A server on the desk reads a large model from disk before its first
# word, and is back as soon as its owner has started it again.
_PROVIDER: Mapping[str, float] = MappingProxyType({"retries": 2, "cooldown": 15, "first_event_timeout": 120})
_DESK: Mapping[str, float] = MappingProxyType({"retries": 1, "cooldown": 5, "first_event_timeout": 300})
_OTHER: Mapping[str, float] = MappingProxyType({"retries": 1, "cooldown": 15, "first_event_timeout": 120})

# How a new upstream of each kind is treated. Each switch that is off was seen to make such a server refuse requests.
PRESETS: Mapping[Kind, Mapping[str, bool | float]] = MappingProxyType(
    {
        Kind.OPENAI: {**_EVERYTHING, **_PROVIDER},
        Kind.OLLAMA: {**_LOCAL_MODEL, **_DESK},
        Kind.LM_STUDIO: {**_LOCAL_MODEL, **_DESK},
        Kind.VLLM: {**_LOCAL_MODEL, **_OTHER},
        Kind.LLAMA_CPP: {**_LOCAL_MODEL, **_DESK},
        Kind.OTHER: {**_LOCAL_MODEL, **_OTHER},
        Kind.DEMO: {**_EVERYTHING, **_OTHER, "speaks_responses": False},
    }
)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A place where an LLM server may be. `named` by the operator's environment: kept even when it does not answer.

    `owner`: who its models have to be owned by, where other servers like to listen on that port too.
    """

    slug: str
    kind: Kind
    base_url: str
    secret: str = ""
    named: bool = False
    owner: str = ""

    @property
    def timeout(self) -> float:
        return REMOTE_TIMEOUT if self.named else LOCAL_TIMEOUT


@dataclass(frozen=True, slots=True)
class Finding:
    """What a candidate answered: its models, or one sentence why it does not."""

    candidate: Candidate
    models: tuple[str, ...] = ()
    problem: str = ""

    @property
    def is_usable(self) -> bool:
        return bool(probe.first_chat_model(self.models))

    @property
    def is_kept(self) -> bool:
        return self.candidate.named or not self.problem


@dataclass(frozen=True, slots=True)
class Detection:
    """What the first start made of it: the default upstream, a line about each server, and what to know besides."""

    default: Upstream
    lines: tuple[str, ...]
    remarks: tuple[str, ...]


def detect_upstreams(candidates: Sequence[Candidate] | None = None) -> Detection | None:
    """Look for LLM servers and store those found, with one of them (or the demo) as the default.

    Only on a first start: None when there is any upstream already. `candidates` default to the environment's.
    """
    if Upstream.objects.exists():
        return None
    places = candidates_of(os.environ) if candidates is None else candidates
    findings = [finding for finding in asyncio.run(_ask_all(places)) if finding.is_kept]
    with transaction.atomic():
        rows = [_store(finding) for finding in findings]
        usable = [row for row, finding in zip(rows, findings, strict=True) if finding.is_usable]
        default = _choose(rows, usable)
        default.make_default()
    return Detection(default, tuple(map(_line, findings)), tuple(_remarks(default)))


def candidates_of(environ: Mapping[str, str]) -> list[Candidate]:
    """Where to look, in the order of preference."""
    local = [
        Candidate("vllm", Kind.VLLM, "http://127.0.0.1:8000/v1"),
        Candidate("lmstudio", Kind.LM_STUDIO, "http://127.0.0.1:1234/v1"),
        Candidate("ollama", Kind.OLLAMA, "http://127.0.0.1:11434/v1"),
        Candidate("llamacpp", Kind.LLAMA_CPP, "http://127.0.0.1:8080/v1", owner="llamacpp"),
    ]
    named = _named(environ)
    seen = {("127.0.0.1", settings.GATEWAY_PORT)}  # never ourselves: the gateway would answer itself in a circle
    places = []
    for candidate in [*named, *local]:
        address = _address(candidate.base_url)
        if address not in seen:
            seen.add(address)
            places.append(candidate)
    return places


def add_demo() -> Upstream:
    """The built-in demo, which answers when there is no LLM server. Stored if it was not yet."""
    row, _ = Upstream.objects.get_or_create(
        slug=DEMO_SLUG, defaults={"kind": Kind.DEMO, "default_model": probe.DEMO_MODELS[0], **PRESETS[Kind.DEMO]}
    )
    demo: Upstream = row
    probe.store_models(demo, probe.DEMO_MODELS)
    return demo


def _named(environ: Mapping[str, str]) -> list[Candidate]:
    secret = environ.get("OPENAI_API_KEY", "").strip()
    base_url = environ.get("OPENAI_BASE_URL", "").strip().rstrip("/")
    if not (secret or base_url):
        return []
    base_url = base_url or "https://api.openai.com/v1"
    host, _ = _address(base_url)
    kind = Kind.OPENAI if host == "openai.com" or host.endswith(".openai.com") else Kind.OTHER
    return [Candidate("openai", kind, base_url, secret, named=True)]


def _address(base_url: str) -> tuple[str, int]:
    try:
        parts = urlsplit(base_url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        return base_url, 0  # no URL at all: the probe will say so
    host = "127.0.0.1" if parts.hostname in {"localhost", "::1", "0.0.0.0"} else parts.hostname or ""  # noqa: S104
    return host, port


async def _ask_all(candidates: Sequence[Candidate]) -> list[Finding]:
    return await asyncio.gather(*map(_ask, candidates))


async def _ask(candidate: Candidate) -> Finding:
    try:
        found = await probe.read_list(base_url=candidate.base_url, secret=candidate.secret, timeout=candidate.timeout)
    except UpstreamError as error:
        return Finding(candidate, problem=error.message)
    if candidate.owner and candidate.owner not in found.owners:
        return Finding(candidate, problem=f"What answers at {candidate.base_url} is another server.")
    return Finding(candidate, models=tuple(found.names))


def _store(finding: Finding) -> Upstream:
    candidate = finding.candidate
    row = Upstream(
        slug=candidate.slug, kind=candidate.kind, base_url=candidate.base_url, last_error=finding.problem,
        **PRESETS[candidate.kind],
    )  # fmt: skip
    row.secret = candidate.secret
    row.save()
    if not finding.problem:
        probe.store_answer(row, finding.models)
    return row


def _choose(rows: Sequence[Upstream], usable: Sequence[Upstream]) -> Upstream:
    """The operator's choice, else the first that can chat, else the demo."""
    wanted = settings.GATEWAY_DEFAULT_UPSTREAM
    named = [row for row in rows if row.slug == wanted]
    chosen = next(iter([*named, *([] if wanted == DEMO_SLUG else usable)]), None) or add_demo()
    if settings.GATEWAY_DEFAULT_MODEL and chosen.kind != Kind.DEMO:
        chosen.default_model = settings.GATEWAY_DEFAULT_MODEL
    return chosen


def _line(finding: Finding) -> str:
    candidate = finding.candidate
    if finding.problem:
        return f"{candidate.slug}: {finding.problem}"
    count = len(finding.models)
    if not count:
        return f"{candidate.slug}: found at {shown_url(candidate.base_url)}, but it has no models yet"
    return f"{candidate.slug}: found at {shown_url(candidate.base_url)}, {count} {'model' if count == 1 else 'models'}"


def _remarks(default: Upstream) -> list[str]:
    remarks = []
    wanted = settings.GATEWAY_DEFAULT_UPSTREAM
    if wanted and wanted != default.slug:
        remarks.append(f"GATEWAY_DEFAULT_UPSTREAM asks for {wanted}, which was not found")
    if default.kind == Kind.DEMO and wanted != DEMO_SLUG:
        remarks.append("no LLM server answers: the built-in demo does, until you connect one in the admin")
    return remarks
