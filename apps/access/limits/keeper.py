"""The store that this process counts in: chosen, fed with the past, looked after, and done without while it is down."""

import asyncio
import contextlib
import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime
from typing import Final, NamedTuple

import prometheus_client
import structlog
from django.conf import settings

from apps.access.limits.in_force import limits_in_force
from apps.access.limits.memory import MemoryStore
from apps.access.limits.rules import Book, Meter
from apps.access.limits.shared import RedisStore
from apps.access.limits.store import Past, Store, StoreDown
from apps.access.limits.use import Use
from apps.access.models import ApiKey
from apps.core import clock
from apps.observability.metrics import REGISTRY

log = structlog.get_logger(__name__)

_FAILURES = prometheus_client.Counter(
    "gateway_limit_store_failures",
    "Times that the store of the limits was needed and did not answer: what was limited then went on unlimited.",
    registry=REGISTRY,
)

NOT_ENFORCED: Final = "Limits are not enforced: the store that counts them (REDIS_URL) does not answer."
_BEAT: Final = 1.0  # seconds between two looks at new limits, and at a store that is down
_BEATS_BETWEEN_CARE: Final = 10


class PastUse(NamedTuple):
    """What a key and its person used of an agent. `user_id` is empty where no person was named."""

    key_id: int
    user_id: str
    agent_id: str
    requests: int  # of the day
    tokens: int  # of the day
    usd: float  # of the month


# What was used from the beginning of the month to an instant, by the record of runs; that lies above this app.
History = Callable[[datetime], Iterable[PastUse]]


class Keeper:
    """Of this process. `outage` says why limits are not enforced, and is empty while they are."""

    def __init__(self) -> None:
        self.store: Store = MemoryStore()
        self.outage = ""
        self._known: frozenset[int] | None = None  # limits whose past is in the store; None: what it holds is unknown
        self._held: dict[str, Sequence[Meter]] = {}  # by lease: the runs under way
        self._history: History = _no_history
        self._keeping: asyncio.Task[None] | None = None

    async def start(self, history: History) -> None:
        """Returns when the past is counted, so that a restart gives nobody a second day."""
        self._history, self._known, self._held = history, None, {}
        self.store = RedisStore(settings.REDIS_URL, prefix()) if settings.REDIS_URL else MemoryStore()
        try:
            await self._learn()
        except StoreDown as error:
            self.note_outage(error)
        self._keeping = asyncio.create_task(self._keep())

    async def stop(self) -> None:
        if self._keeping:
            self._keeping.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeping
        await self.store.close()
        self.store, self.outage = MemoryStore(), ""

    # --- for a request -----------------------------------------------------------------------------------------------
    # A store that did not answer is not asked again until it does. Whoever catches StoreDown here says so to `missed`.

    async def take(self, meters: Sequence[Meter], at: float, lease: str) -> tuple[bool, Sequence[Use]]:
        """See Store.take. Raises StoreDown, at once while the store is known to be down."""
        self._refuse_while_down()
        taken, uses = await self.store.take(meters, at, lease)
        if taken:
            self._held[lease] = meters
        return taken, uses

    async def look(self, meters: Sequence[Meter], at: float) -> Sequence[Use]:
        """See Store.look. Raises StoreDown."""
        self._refuse_while_down()
        return await self.store.look(meters, at)

    async def settle(self, meters: Sequence[Meter], at: float, lease: str, tokens: int, usd: float) -> None:
        """See Store.settle. Raises StoreDown; the lease ends then for want of renewal."""
        self._held.pop(lease, None)
        self._refuse_while_down()
        await self.store.settle(meters, at, lease, tokens, usd)

    def missed(self, error: StoreDown) -> None:
        """Something went on unlimited: count it, and log an outage that begins."""
        _FAILURES.inc()
        self.note_outage(error)

    def _refuse_while_down(self) -> None:
        if self.outage:
            raise StoreDown(self.outage)

    # --- beside the requests -----------------------------------------------------------------------------------------

    async def _keep(self) -> None:
        beat = 0
        while True:
            await asyncio.sleep(_BEAT)
            beat += 1
            try:
                await self._look_after(with_care=beat % _BEATS_BETWEEN_CARE == 0)
            except StoreDown as error:
                self.note_outage(error)
            except Exception as error:  # whatever it is, the next beat must still come
                log.error("limits_not_kept", exc_info=error)

    async def _look_after(self, *, with_care: bool) -> None:
        if (self.outage or with_care) and not await self.store.look_after(self._held, clock.seconds()):
            self._known = None  # it was emptied
        await self._learn()
        if self.outage:
            log.info("limit_store_back")
            self.outage = ""

    def note_outage(self, error: StoreDown) -> None:
        if not self.outage:
            self.outage = str(error)
            log.error("limit_store_down", reason=self.outage)

    async def _learn(self) -> None:
        """Count what was used before limits were counted here: after a start, and for a limit that is new."""
        book = limits_in_force()
        known = self._known or frozenset()
        if known >= book.rules.keys():
            self._known = known
            return
        new = book.rules.keys() - known
        before = clock.now() if self._known is None else book.loaded_at
        past = await asyncio.to_thread(self._past, book, new, before)
        ours = await self.store.claim(new)  # of several workers one gets each
        await self.store.recall((one for one in past if one.meter.rule.id in ours), clock.seconds())
        self._known = frozenset(book.rules)

    def busiest(self, limits: Collection[int]) -> dict[int, Meter]:
        """Of each of these limits that was used this month, the meter with the most requests today. One query."""
        requests: Counter[Meter] = Counter()
        for one in self._past(limits_in_force(), limits, clock.now()):
            requests[one.meter] += one.requests
        return {meter.rule.id: meter for meter, _ in reversed(requests.most_common())}

    def _past(self, book: Book, limits: Collection[int], before: datetime) -> list[Past]:
        teams = dict(ApiKey.objects.values_list("pk", "team"))
        return [
            Past(meter, used.requests, used.tokens, used.usd)
            for used in self._history(before)
            for meter in book.meters(used.key_id, teams.get(used.key_id), used.user_id, used.agent_id)
            if meter.rule.id in limits
        ]


def prefix() -> str:
    """Of this installation's names in a Redis that others may use too."""
    return "agent-gateway:" + hashlib.sha256(f"limits of {settings.SECRET_KEY}".encode()).hexdigest()[:16]


def _no_history(_before: datetime) -> Iterable[PastUse]:
    return ()


keeper = Keeper()
