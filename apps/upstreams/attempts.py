"""Which upstream is asked, how often, and when the next one takes over: docs/decisions/0015.

A call tries the choices of its route in turn until one has begun to answer; what has begun is not its business. Each
choice has its own patience (for a stream, `first_event_timeout`), which all attempts there share.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from random import random
from time import monotonic
from typing import Final, TypeVar

from apps.core import clock
from apps.core.errors import UpstreamBusy, UpstreamError, UpstreamRejected, UpstreamTimeout, UpstreamUnreachable
from apps.upstreams import capacity, health
from apps.upstreams.capacity import Place
from apps.upstreams.routing import Candidate, Target

Answer = TypeVar("Answer")
Ask = Callable[[Candidate, float], Awaitable[Answer]]  # with the seconds that it may take
Patience = Callable[[Target], float]

SHORT_WAIT: Final = 3.0  # seconds: a Retry-After that is waited for; a longer one is the client's to keep
_BACKOFF: Final = 0.1  # seconds before the first retry; twice as long before each further one
_LONGEST_BACKOFF: Final = 2.0
_PASSING: Final = frozenset({408, 500, 502, 503, 504})  # statuses that may be others a moment later
_OTHERS_MAY_KNOW: Final = frozenset({404, 429})  # of what is the caller's fault, what another choice may take


async def answer(candidates: Sequence[Candidate], ask: Ask[Answer], patience: Patience) -> tuple[Answer, Place | None]:
    """The first answer that begins, and its place, which has to be left when the answer ends.

    Raises UpstreamError: the one that says when to come again, else the last choice's.
    """
    turns = iter(candidates) if len(candidates) == 1 else in_turn(candidates)
    failures: list[tuple[Candidate, UpstreamError]] = []
    for left, candidate in zip(range(len(candidates) - 1, -1, -1), turns, strict=True):
        if failures:
            health.record(failures[-1][0].target.slug).counts.failed_over += 1
        try:
            return await _at(candidate, ask, patience, has_others=left > 0)
        except UpstreamError as error:
            failures.append((candidate, error))
            if isinstance(error, UpstreamRejected) and error.status not in _OTHERS_MAY_KNOW:
                raise
    candidate, told = min(failures[::-1], key=_soonest)
    try:
        if not _is_worth_waiting_for(candidate.target, told):
            raise told
        await asyncio.sleep(told.retry_after or 0.0)
    finally:
        del told, failures  # an error refers to this frame
    return await _at(candidate, ask, patience, has_others=False, is_again=True)


def in_turn(candidates: Sequence[Candidate], draw: Callable[[], float] = random) -> Iterator[Candidate]:
    """By order, by lot within an order (a weight of 2 comes first twice as often as 1), those that cool down last.

    Lazy: an upstream that is taken from it after its cooldown is on trial, and passed over by others meanwhile.
    """
    passed_over = []
    # Of keys random ** (1 / weight), the greatest is each one's with the probability of its share of the weights
    # (Efraimidis and Spirakis, 2006).
    for candidate in sorted(candidates, key=lambda one: (one.order, -(draw() ** (1 / max(one.weight, 1))))):
        if health.record(candidate.target.slug).passes_over(clock.now()):
            passed_over.append(candidate)
        else:
            yield candidate
    yield from sorted(passed_over, key=_end_of_cooldown)


async def _at(
    candidate: Candidate, ask: Ask[Answer], patience: Patience, *, has_others: bool, is_again: bool = False
) -> tuple[Answer, Place | None]:
    """At one upstream: the first attempt, and retries while they are safe and there is time."""
    target = candidate.target
    place: Place | None = None
    try:
        if target.max_concurrency is not None:
            place = await capacity.enter(target)
        ends_at = monotonic() + patience(target)
        attempt = int(is_again)
        while True:
            if attempt:
                health.record(target.slug).counts.retried += 1
            try:
                begun = await ask(candidate, ends_at - monotonic())
                health.note_success(target.slug)
                return begun, place
            except UpstreamError as error:
                health.note_failure(target.slug, error, cooldown=target.cooldown)
                pause = (1 - random() / 2) * min(_BACKOFF * 2**attempt, _LONGEST_BACKOFF)  # noqa: S311  # no secret
                is_late = monotonic() + pause >= ends_at
                if attempt >= target.retries or is_late or not _is_safe_to_retry(error, has_others):
                    raise
            await asyncio.sleep(pause)
            attempt += 1
    except BaseException:
        health.end_trial(target.slug)
        if place:
            place.leave()
        raise


def _is_safe_to_retry(error: UpstreamError, has_others: bool) -> bool:
    """Nothing of an answer came, and the next attempt may go better."""
    if error.retry_after is not None or isinstance(error, UpstreamTimeout):
        return False
    if not error.reached:
        return not has_others
    # Closed without a word: a server that restarts, or one that closed an idle connection as it was used again.
    was_dropped = isinstance(error, UpstreamUnreachable) and error.code == UpstreamUnreachable.code
    return was_dropped or error.answered in _PASSING


def _is_worth_waiting_for(target: Target, error: UpstreamError) -> bool:
    waits = error.retry_after is not None and error.retry_after <= SHORT_WAIT
    return waits and target.retries > 0 and not isinstance(error, UpstreamBusy)


def _soonest(failure: tuple[Candidate, UpstreamError]) -> float:
    after = failure[1].retry_after
    return float("inf") if after is None else after


def _end_of_cooldown(candidate: Candidate) -> float:
    until = health.record(candidate.target.slug).cooling_until
    return until.timestamp() if until else 0.0
