"""What the live pages of this worker read: its own events, and those that other workers tell it of.

A page is a position: for each worker, the number of the last event that it has been sent. So a page that reads slowly
keeps nothing waiting but itself; what has left the rings meanwhile is counted for it.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import prometheus_client
from channels.layers import channel_layers
from django.conf import settings

from apps.console.live.relay import BEAT, Relay
from apps.observability.feed import Event, Ring, feed
from apps.observability.metrics import REGISTRY

LAYER: Final = "workers"  # in settings.CHANNEL_LAYERS, where REDIS_URL is set
MOST_PAGES: Final = 50  # of one worker

Position = dict[str, int]  # worker -> the number of its last event that is known

_PAGES = prometheus_client.Gauge("gateway_live_pages", "Live pages of the console that are open.", registry=REGISTRY)


@dataclass(frozen=True, slots=True)
class State:
    """Whose events the pages show. `outage` says why those of other workers are missing; `is_shared` is false where
    there is nothing that could bring them."""

    worker: str
    workers: tuple[str, ...]
    expected: int
    is_shared: bool
    outage: str


@dataclass(frozen=True, slots=True)
class Batch:
    """Events of all workers, of each in its order, and how many were missed: they came and went unseen."""

    events: list[tuple[str, Event]]
    missed: int


class Hub:
    """Of this process."""

    def __init__(self) -> None:
        self._pages = 0
        self._relay: Relay | None = None
        self._looking: asyncio.Task[None] | None = None
        self._news = asyncio.Event()

    async def start(self) -> None:
        if LAYER in channel_layers:
            self._relay = Relay(channel_layers[LAYER], self._tell_pages)
            await self._relay.start()

    async def stop(self) -> None:
        if self._looking:
            self._looking.cancel()
        if self._relay:
            await self._relay.stop()
            self._relay = None

    @property
    def is_full(self) -> bool:
        return self._pages >= MOST_PAGES

    @contextmanager
    def watching(self) -> Iterator[None]:
        """For as long as a page is open."""
        self._pages += 1
        _PAGES.inc()
        self._look()
        try:
            yield
        finally:
            self._pages -= 1
            _PAGES.dec()
            if self._relay and not self._pages:
                self._relay.watch(False)

    def _look(self) -> None:
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look_for_news())
        if self._relay:
            self._relay.watch(True)

    async def _look_for_news(self) -> None:
        """Instead of every event waking somebody up: nobody pays for it, and many at once cost as little as one."""
        seen = -1
        while self._pages:
            if feed.ring.last != seen:
                seen = feed.ring.last
                self._tell_pages()
            await asyncio.sleep(BEAT)

    def _tell_pages(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    def news(self) -> asyncio.Event:
        """Set when there is something that `after` or `state` did not tell before this was called."""
        return self._news

    def after(self, position: Position, most: int) -> Batch:
        """What comes after the position, which moves on: of each worker at most so much."""
        events: list[tuple[str, Event]] = []
        missed = 0
        for worker, ring in self._rings():
            found = ring.after(position.get(worker, 0), most)
            if found and worker in position:
                numbers = [position[worker], *(event["number"] for event in found)]
                missed += sum(later - earlier - 1 for earlier, later in pairwise(numbers))
            if found:
                position[worker] = found[-1]["number"]
                events.extend((worker, event) for event in found)
        return Batch(events, missed)

    def _rings(self) -> list[tuple[str, Ring]]:
        others = self._relay.others if self._relay else {}
        return [(feed.worker, feed.ring), *((worker, other.ring) for worker, other in others.items())]

    def state(self) -> State:
        return State(
            worker=feed.worker,
            workers=tuple(worker for worker, _ in self._rings()),
            expected=settings.GATEWAY_WORKERS,
            is_shared=self._relay is not None,
            outage=self._relay.outage if self._relay else "",
        )


hub = Hub()
