"""What the workers tell each other, over the Channels layer in Redis: questions of those whose pages are watched, and
the answers of all others.

A question says which events the asker has, a worker answers with those that come after, and goes on until nobody has
asked for a while. Since every question says it anew, nothing has to be certain: what is lost on the way, or while Redis
is away, comes with the answer to a later question.
"""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final

import msgspec
import prometheus_client
import structlog
from channels.exceptions import ChannelFull
from redis.exceptions import RedisError

from apps.observability.feed import Event, Ring, feed
from apps.observability.metrics import REGISTRY

log = structlog.get_logger(__name__)

BEAT: Final = 0.1  # seconds between two looks at what is new
_ASK_EVERY: Final = 3.0  # seconds
_ASKED_FOR: Final = 10.0  # seconds that a question is answered
_SILENT_AFTER: Final = 10.0  # seconds, after which a worker is taken for gone
_STAY_EVERY: Final = 20.0  # seconds between two entries into the group
_MOST: Final = 200  # events in one message
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 10.0  # seconds before Redis is tried again

_SETTLING: Final = 5.0  # seconds, in which connections of before an outage may still fail, each once

_GROUP: Final = "workers"

_FAILURES = prometheus_client.Counter(
    "gateway_live_feed_failures",
    "Times that workers could not tell each other for the live page, because Redis did not answer.",
    registry=REGISTRY,
)


class _Question(msgspec.Struct, tag="question"):
    worker: str
    channel: str
    has: dict[str, int]  # by worker, the number of the last event


class _Answer(msgspec.Struct, tag="answer"):
    worker: str
    events: list[Event]


_encode = msgspec.json.Encoder(enc_hook=str).encode
_decoder = msgspec.json.Decoder(_Question | _Answer)


@dataclass(slots=True)
class _Asker:
    channel: str
    has: int
    until: float
    is_answered: bool = False


@dataclass(slots=True)
class Other:
    """Another worker, as far as it is known here."""

    ring: Ring
    heard: float


class Relay:
    """Of this worker. `others` holds copies of their rings; `outage` says why they are not heard, or is empty."""

    def __init__(self, layer: Any, on_news: Callable[[], None]) -> None:
        self.others: dict[str, Other] = {}
        self.outage = ""
        self._back_at = -_SETTLING
        self._layer = layer
        self._on_news = on_news
        self._channel = ""  # of this worker, in the layer
        self._askers: dict[str, _Asker] = {}
        self._is_watched = False
        self._tasks: list[asyncio.Task[None]] = []
        self._telling: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._channel = await self._layer.new_channel()  # a name: Redis is not asked
        self._tasks = [
            asyncio.create_task(self._again_and_again(self._listen)),
            asyncio.create_task(self._again_and_again(self._stay)),
        ]

    async def stop(self) -> None:
        tasks = [*self._tasks, *([self._telling] if self._telling else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with contextlib.suppress(RedisError, OSError):
            await self._layer.close_pools()

    def watch(self, is_watched: bool) -> None:
        """Whether there are pages here to tell of the others."""
        self._is_watched = is_watched
        if is_watched:
            self._hear_everybody_anew()
            self._begin_to_tell()

    # --- hearing -----------------------------------------------------------------------------------------------------

    async def _again_and_again(self, do: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """`do` runs to its end; when it fails, mostly for want of Redis, again after a growing pause."""
        pause = _FIRST_PAUSE
        while True:
            began = monotonic()
            try:
                await do()
                return
            except Exception as error:  # noqa: BLE001  # whatever it is, the next attempt must still come
                self._note_outage(error)
            if monotonic() - began > _LONGEST_PAUSE:
                pause = _FIRST_PAUSE
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def _stay(self) -> None:
        """In the group, which Redis forgets when it is emptied."""
        while True:
            await self._layer.group_add(_GROUP, self._channel)
            self._note_back()
            await asyncio.sleep(_STAY_EVERY)

    async def _listen(self) -> None:
        while True:
            message = await self._layer.receive(self._channel)
            try:
                told = _decoder.decode(message["told"])
            except (msgspec.DecodeError, KeyError):
                continue  # of a gateway of another version, during an update
            if told.worker != feed.worker:
                self._take(told)

    def _take(self, told: _Question | _Answer) -> None:
        if isinstance(told, _Question):
            has = told.has.get(feed.worker, 0)
            self._askers[told.channel] = _Asker(told.channel, has, until=monotonic() + _ASKED_FOR)
            self._begin_to_tell()
            return
        other = self.others.setdefault(told.worker, Other(Ring(), 0.0))
        other.heard = monotonic()
        for event in told.events:
            other.ring.copy(event)
        self._on_news()

    # --- telling -----------------------------------------------------------------------------------------------------

    def _begin_to_tell(self) -> None:
        if self._telling is None or self._telling.done():
            self._telling = asyncio.create_task(self._again_and_again(self._tell))

    async def _tell(self) -> None:
        """Until nobody watches, here or elsewhere."""
        ask_at = 0.0
        while self._is_watched or self._askers:
            if self._is_watched and monotonic() >= ask_at:
                await self._ask()
                self._note_back()
                ask_at = monotonic() + _ASK_EVERY
            await self._answer()
            await asyncio.sleep(BEAT)

    async def _ask(self) -> None:
        has = {worker: other.ring.last for worker, other in self.others.items()}
        question = _Question(feed.worker, self._channel, has)
        await self._layer.group_send(_GROUP, _message(question))
        self._forget_the_silent()

    def _forget_the_silent(self) -> None:
        silent = [worker for worker, other in self.others.items() if other.heard < monotonic() - _SILENT_AFTER]
        for worker in silent:
            del self.others[worker]
        if silent:
            self._on_news()

    async def _answer(self) -> None:
        for asker in list(self._askers.values()):
            if asker.until < monotonic():
                del self._askers[asker.channel]
                continue
            events = feed.ring.after(asker.has, _MOST)
            if events or not asker.is_answered:
                await self._send(asker, events)

    async def _send(self, asker: _Asker, events: list[Event]) -> None:
        try:
            await self._layer.send(asker.channel, _message(_Answer(feed.worker, events)))
        except ChannelFull:
            return  # it reads too slowly, or is gone: the same again with the next beat
        asker.is_answered = True
        if events:
            asker.has = events[-1]["number"]

    # --- Redis -------------------------------------------------------------------------------------------------------

    def _note_outage(self, error: Exception) -> None:
        _FAILURES.inc()
        if not self.outage and monotonic() > self._back_at + _SETTLING:
            self.outage = str(error) or type(error).__name__
            is_known = isinstance(error, RedisError | OSError)
            log.warning("live_feed_down", reason=self.outage, exc_info=None if is_known else error)
            self._on_news()

    def _note_back(self) -> None:
        if self.outage:
            self.outage = ""
            self._back_at = monotonic()
            log.info("live_feed_back")
            self._hear_everybody_anew()
            self._on_news()

    def _hear_everybody_anew(self) -> None:
        """Nobody is silent for what could not be heard."""
        for other in self.others.values():
            other.heard = monotonic()


def _message(told: _Question | _Answer) -> dict[str, Any]:
    return {"type": "told", "told": _encode(told).decode()}
