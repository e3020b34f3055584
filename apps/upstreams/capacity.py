"""So many calls at once and no more: an upstream's places, and the queue before them.

Of one event loop of one process, first come, first served. An upstream without a limit never comes here.
"""

import asyncio
from collections import deque
from collections.abc import Iterator
from time import monotonic
from typing import Final
from weakref import WeakKeyDictionary

from apps.core.errors import UpstreamBusy
from apps.upstreams.routing import Target

_SHORTEST: Final = 1.0  # seconds that a client is told to wait, at least
_LONGEST: Final = 60.0


class Gate:
    """The places of one upstream. Their number is asked for with each call: it may be edited meanwhile."""

    def __init__(self, slug: str) -> None:
        self.slug = slug
        self.taken = 0
        self.queue: deque[asyncio.Future[None]] = deque()
        self._limit = 1
        self._held = 1.0  # seconds that a place is held, on average, of late

    async def enter(self, limit: int, *, queue_size: int, patience: float) -> "Place":
        """Wait for a place. Raises UpstreamBusy when too many wait already, or none was free in time."""
        self._limit = limit
        self._let_in()  # it may have been raised
        if self.taken < limit and not self.queue:
            self.taken += 1
        elif len(self.queue) >= queue_size:
            raise self._busy(f"{self.taken} running and {len(self.queue)} waiting")
        else:
            await self._wait(patience)
        return Place(self)

    async def _wait(self, patience: float) -> None:
        turn = asyncio.get_running_loop().create_future()
        self.queue.append(turn)
        try:
            async with asyncio.timeout(patience):
                await turn
        except TimeoutError as error:
            self._withdraw(turn)
            raise self._busy(f"no place became free within {patience:g} s") from error
        except BaseException:
            self._withdraw(turn)
            raise

    def _withdraw(self, turn: "asyncio.Future[None]") -> None:
        if turn.done() and not turn.cancelled():  # it was given a place in the very moment in which it gave up
            self.leave()
        elif turn in self.queue:
            self.queue.remove(turn)

    def leave(self, held: float | None = None) -> None:
        if held is not None:
            self._held += (held - self._held) / 8
        self.taken -= 1
        self._let_in()

    def _let_in(self) -> None:
        while self.queue and self.taken < self._limit:
            turn = self.queue.popleft()
            if not turn.done():
                self.taken += 1
                turn.set_result(None)

    def _busy(self, why: str) -> UpstreamBusy:
        wait = self._held * (len(self.queue) + 1) / self._limit
        return UpstreamBusy(
            f"Upstream '{self.slug}' is busy: {why}. Try again later, or let it take more calls at once in the admin.",
            retry_after=min(max(wait, _SHORTEST), _LONGEST),
        )


class Place:
    """One call's. It is given back once, however often it is left; at the latest when nothing refers to it."""

    def __init__(self, gate: Gate) -> None:
        self._gate: Gate | None = gate
        self._loop = asyncio.get_running_loop()
        self._since = monotonic()

    def leave(self) -> None:
        if gate := self._gate:
            self._gate = None
            gate.leave(monotonic() - self._since)

    def __del__(self) -> None:
        if (gate := self._gate) and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(gate.leave)  # the collector may run in any thread


_gates: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Gate]] = WeakKeyDictionary()


async def enter(target: Target) -> Place | None:
    """A place there, None where there is no limit to them. Raises UpstreamBusy."""
    if target.max_concurrency is None:
        return None
    gates = _gates.setdefault(asyncio.get_running_loop(), {})
    gate = gates.get(target.slug) or gates.setdefault(target.slug, Gate(target.slug))
    return await gate.enter(target.max_concurrency, queue_size=target.queue_size, patience=target.queue_timeout)


def waiting_at(slug: str) -> int:
    """How many calls of this process wait for a place there."""
    return sum(len(gate.queue) for gate in _gates_of(slug))


def running_at(slug: str) -> int:
    """How many calls of this process have a place there; 0 where there is no limit."""
    return sum(gate.taken for gate in _gates_of(slug))


def _gates_of(slug: str) -> Iterator[Gate]:
    for gates in list(_gates.values()):
        if gate := gates.get(slug):
            yield gate
