"""Model lists and signs of life of the upstreams, asked for in the background: never while a client waits.

Every worker looks every few seconds at what was heard of each upstream, whichever process asked, and takes it into its
own knowledge of their health. What is due is asked by the worker that claims it first, so that no two ask.
"""

import asyncio
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from django.conf import settings
from django.db.models import Q

from apps.core import clock
from apps.core.errors import UpstreamError, UpstreamTimeout
from apps.core.periodic import Periodic
from apps.upstreams import health, probe
from apps.upstreams.models import Kind, Upstream

LOOK_SECONDS = 2.0
SICK_SECONDS = 15.0  # between two questions to one that does not fare well
AT_ONCE = 8  # servers
PATIENCE = 25.0  # seconds for all
_JITTER = 0.1  # of an interval, so that many gateways do not ask one server in step
_REFUSED = "upstream_unauthorised"
_SICK = (health.State.DOWN, health.State.DEGRADED)

log = structlog.get_logger(__name__)
Answer = list[str] | UpstreamError


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of asking an upstream: its models, or why there are none."""

    upstream: Upstream
    models: tuple[str, ...] = ()
    error: UpstreamError | None = None


def refresh(upstreams: Sequence[Upstream], *, within: float = PATIENCE) -> list[Outcome]:
    """Ask these together, and store what they list; returns what came of each, after `within` seconds at most.

    A failure keeps the stored list, an unchanged list disturbs nobody. This process's knowledge of their health goes
    along. Raises nothing of theirs.
    """
    answers = asyncio.run(_ask_all(upstreams, within))
    return [_stored(upstream, answer) for upstream, answer in zip(upstreams, answers, strict=True)]


async def _ask_all(upstreams: Iterable[Upstream], within: float) -> list[Answer]:
    gate = asyncio.Semaphore(AT_ONCE)

    async def ask(upstream: Upstream) -> Answer:
        try:
            async with asyncio.timeout(within), gate:
                return await probe.ask_models(upstream)
        except UpstreamError as error:
            return error
        except TimeoutError:
            return UpstreamTimeout(f"There was no time left to ask '{upstream.slug}'. Refresh it by itself.")

    return await asyncio.gather(*map(ask, upstreams))


def refresh_due() -> list[Outcome]:
    """Ask those whose turn it is and which nobody else asks now; nobody with GATEWAY_UPSTREAM_REFRESH=0."""
    now = clock.now()
    mine = [one for one in _asked_ones() if _is_due(one, now) and _claim(one, now)]
    return refresh(mine) if mine else []


def _asked_ones() -> list[Upstream]:
    return list(Upstream.objects.filter(enabled=True).exclude(kind=Kind.DEMO))


def _stored(upstream: Upstream, answer: Answer) -> Outcome:
    now = Upstream.objects.filter(pk=upstream.pk).first()
    if now is None or now.base_url != upstream.base_url:  # edited meanwhile: this is the answer of another server
        return Outcome(upstream, error=UpstreamError(f"'{upstream.slug}' was changed while it was asked. Ask again."))
    if isinstance(answer, UpstreamError):
        probe.note_failure(now, answer)
        health.note_probe(now.slug, answer)
        return Outcome(now, error=answer)
    models = probe.store_answer(now, answer)
    health.note_probe(now.slug, None)
    return Outcome(now, tuple(models))


# --- beside the requests of a server process -------------------------------------------------------------------------


class Refresher:
    """Of this process. With GATEWAY_UPSTREAM_REFRESH=0 it asks nobody, and still hears what others asked."""

    def __init__(self) -> None:
        self._heard: dict[int, datetime] = {}  # by upstream: when the answer was given that was heard last
        self._began = clock.now()
        self._thread = Periodic("upstream-refresh", self.look, seconds=LOOK_SECONDS)

    def start(self) -> None:
        self._heard, self._began = {}, clock.now()
        self._thread.start()

    def stop(self) -> None:
        self._thread.stop(patience=1.0)  # a server that hangs does not keep the process from ending

    def look(self) -> None:
        """Hear what was said to others, and ask what is due. Raises DatabaseError."""
        for upstream in _asked_ones():
            self._hear(upstream)
        for outcome in refresh_due():
            self._heard[outcome.upstream.pk] = outcome.upstream.answered_at or clock.now()
            _tell(outcome)

    def _hear(self, upstream: Upstream) -> None:
        answered = upstream.answered_at
        if answered and answered > self._heard.get(upstream.pk, self._began):
            self._heard[upstream.pk] = answered
            health.note_probe(upstream.slug, probe.last_failure(upstream))


def _is_due(upstream: Upstream, now: datetime) -> bool:
    seconds = _interval(upstream) * random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311  # no secret
    return bool(seconds) and (upstream.asked_at is None or upstream.asked_at <= now - timedelta(seconds=seconds))


def _interval(upstream: Upstream) -> float:
    """In seconds; 0 for never."""
    usual: float = settings.GATEWAY_UPSTREAM_REFRESH
    if upstream.last_error_code == _REFUSED:  # asking again helps nobody, and some servers lock out who does
        return usual
    is_sick = bool(upstream.last_error) or health.standing(upstream.slug).state in _SICK
    return min(usual, SICK_SECONDS) if is_sick else usual


def _claim(upstream: Upstream, now: datetime) -> bool:
    """Whether this process is the one that asks: nobody else has since this one looked."""
    unchanged = Q(asked_at=upstream.asked_at) if upstream.asked_at else Q(asked_at=None)
    return bool(Upstream.objects.filter(unchanged, pk=upstream.pk).unpublished().update(asked_at=now))


def _tell(outcome: Outcome) -> None:
    if outcome.error:
        log.info("upstream_not_read", upstream=outcome.upstream.slug, reason=outcome.error.message)
    else:
        log.debug("upstream_read", upstream=outcome.upstream.slug, models=len(outcome.models))


refresher = Refresher()
