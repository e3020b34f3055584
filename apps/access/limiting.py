"""Whether a request may go on by the limits that count for it, and what its run used when it has ended.

Where no limit counts, nothing is asked and nothing is kept. While the store of the limits is down, requests go on
unlimited: it is counted, logged once, and shown on the dashboard and at /ready.
"""

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from asgiref.sync import async_to_sync
from django.conf import settings
from prometheus_client import Counter

from apps.access.authorise import refused_at, tell
from apps.access.decide import Action, Decision, LimitState, Target, within
from apps.access.limits.in_force import limits_in_force
from apps.access.limits.keeper import keeper, prefix
from apps.access.limits.rules import Meter
from apps.access.limits.shared import RedisStore, new_lease
from apps.access.limits.store import StoreDown
from apps.access.limits.use import Gauge, gauges, headers
from apps.access.subject import Subject
from apps.core import clock
from apps.core.errors import RateLimited
from apps.observability.metrics import REGISTRY

_HIT = Counter(
    "gateway_limits_hit",
    "Requests that were refused because a limit was used up, by what it counts: requests, tokens, runs or USD.",
    ["unit"],
    registry=REGISTRY,
)
_NO_HEADERS: Mapping[str, str] = MappingProxyType({})
_LONGEST_WAIT = 60.0  # seconds
_RAN_OUT: Final = {
    "requests": "requests",
    "runs": "requests",
    "tokens": "tokens",
    "USD": "insufficient_quota",
}  # OpenAI's
for _unit in _RAN_OUT:  # nought until it happens: a counter that appears with its first hit shows no increase
    _HIT.labels(_unit)


class Admission:
    """A request that was let through. Whoever has one settles it when the run has ended, however it ended.

    `headers` are those that its answer carries.
    """

    __slots__ = ("_lease", "_meters", "headers")

    def __init__(self, meters: Sequence[Meter] = (), lease: str = "", headers: Mapping[str, str] = _NO_HEADERS) -> None:
        self.headers = headers
        self._meters = meters
        self._lease = lease

    async def settle(self, *, tokens: int = 0, usd: float = 0.0) -> None:
        """Count what the run used, and give its slot back. Once; what follows is ignored."""
        meters, self._meters = self._meters, ()
        if not meters:
            return
        try:
            await keeper.settle(meters, clock.seconds(), self._lease, tokens, usd)
        except StoreDown as error:
            keeper.missed(error)


_UNLIMITED = Admission()


async def admit(subject: Subject, target: Target, decision: Decision) -> Admission:
    """Tell of the decision that allows a chat with the agent, and count a request to it. Raises RateLimited, counts
    nothing and tells of that instead when a limit is used up."""
    admission = _UNLIMITED
    if meters := _meters(subject, target.agent):
        at, lease = clock.seconds(), new_lease()
        try:
            taken, uses = await keeper.take(meters, at, lease)
        except StoreDown as error:
            keeper.missed(error)
        else:
            told = headers(meters, uses, at)
            if not taken:
                raise _refusal(subject, target, decision, _told(gauges(meters, uses, at)), told)
            admission = Admission(meters, lease, told)
    tell(subject, Action.CHAT, target, decision)
    return admission


async def states(subject: Subject, agent_id: str) -> list[LimitState]:
    """How far the limits that would count are used up; counts nothing. None of them while the store is down."""
    return _told(await _gauges(_meters(subject, agent_id)))


def states_now(subject: Subject, agent_id: str) -> list[LimitState]:
    """The same, for synchronous code."""
    return _told(_gauges_now(_meters(subject, agent_id)))


def fullest(limits: Collection[int]) -> Mapping[int, LimitState]:
    """Of each of these limits that has been used today: what is used up the most, by whoever uses it the most.

    For pages: asks the database and the store.
    """
    found: dict[int, LimitState] = {}
    for meter, _, state in _gauges_now(list(keeper.busiest(limits).values())):
        found[meter.rule.id] = max(found.get(meter.rule.id, state), state, key=lambda one: one.used / one.limit)
    return found


def _gauges_now(meters: Sequence[Meter]) -> list[Gauge]:
    return async_to_sync(_gauges_from_elsewhere if settings.REDIS_URL else _gauges)(meters)


async def _gauges(meters: Sequence[Meter]) -> list[Gauge]:
    at = clock.seconds()
    try:
        return gauges(meters, await keeper.look(meters, at), at) if meters else []
    except StoreDown as error:
        keeper.missed(error)
        return []


async def _gauges_from_elsewhere(meters: Sequence[Meter]) -> list[Gauge]:
    """The keeper's connections belong to the loop that serves, so this takes one of its own."""
    if not meters or keeper.outage:
        return []
    at, store = clock.seconds(), RedisStore(settings.REDIS_URL, prefix())
    try:
        return gauges(meters, await store.look(meters, at), at)
    except StoreDown:
        return []
    finally:
        await store.close()


def _meters(subject: Subject, agent_id: str) -> Sequence[Meter]:
    book = limits_in_force()
    if not book.rules:
        return ()
    key = subject.key
    return book.meters(key.id, key.team_id, subject.user.id if subject.user else "", agent_id)


def _refusal(
    subject: Subject, target: Target, decision: Decision, limits: Sequence[LimitState], told: Mapping[str, str]
) -> RateLimited:
    decision = within(limits, decision)
    tell(subject, Action.CHAT, target, decision)
    refused_at(target)
    exhausted = [state for state in limits if state.is_exhausted]
    for unit in {state.unit for state in exhausted}:
        _HIT.labels(unit).inc()
    retry_after = max(state.resets_in for state in exhausted)
    # The official clients wait for a minute at most, and would come again in vain.
    in_vain = {"x-should-retry": "false"} if retry_after > _LONGEST_WAIT else {}
    return RateLimited(
        decision.reason,
        ran_out=_RAN_OUT[exhausted[0].unit],
        retry_after=retry_after,
        headers={**told, **in_vain},
    )


def _told(told: Sequence[Gauge]) -> list[LimitState]:
    return [gauge.state for gauge in told]
