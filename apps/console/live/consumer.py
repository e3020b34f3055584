"""The WebSocket of a live page: what happens, as it happens, and first what came after what the page has.

`?since=w1f:12,w2c:40` says what it has, by worker. Sent are objects of JSON: `state` (whose events these are, see
hub.State), `lines` (words.Line), `missed`, how many events went by unseen, and `now`. There is one every quarter of a
minute at least, so that a page notices a connection that died. What the page sends is not read.
"""

import asyncio
import contextlib
from typing import Any, Final
from urllib.parse import parse_qs

import structlog
from channels.generic.websocket import AsyncWebsocketConsumer
from django.db import DatabaseError

from apps.console.live.hub import Batch, Position, State, hub
from apps.console.live.watcher import CANNOT_TELL, TOO_MANY, Refusal, is_same_origin, refusal_of
from apps.console.live.words import line
from apps.core.clock import now
from apps.core.json import encode

log = structlog.get_logger(__name__)

_MOST: Final = 200  # lines of one worker in one message
_BEAT: Final = 15.0  # seconds
_MOST_WORKERS: Final = 200  # that a page may know
_LONGEST_NUMBER: Final = 16  # digits


class LiveConsumer(AsyncWebsocketConsumer):  # type: ignore[misc]  # Channels ships no types
    """Ends when the user has logged out, may view runs no more, or the session has expired."""

    def __init__(self, *, recheck_seconds: float = 60.0) -> None:
        super().__init__()
        self._recheck_seconds = recheck_seconds
        self._tasks: list[asyncio.Task[None]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            for task in self._tasks:
                task.cancel()

    async def connect(self) -> None:
        if not is_same_origin(self.scope):
            await self.close()  # before it is accepted: 403
            return
        await self.accept()  # or the browser would not learn why not
        if refusal := await refusal_of(self.scope["session"].session_key):
            await self._refuse(refusal)
        elif hub.is_full:
            await self._refuse(TOO_MANY)
        else:
            position = _position(self.scope["query_string"])
            self._tasks = [asyncio.create_task(self._tell(position)), asyncio.create_task(self._recheck())]

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Nothing is expected."""

    async def disconnect(self, code: int) -> None:  # noqa: ARG002  # Channels' signature
        for task in self._tasks:
            task.cancel()

    async def _tell(self, position: Position) -> None:
        told: State | None = None
        with contextlib.suppress(OSError), hub.watching():  # OSError: the page has gone, and `disconnect` follows
            while True:
                news, state = hub.news(), hub.state()
                batch = hub.after(position, _MOST)
                is_quiet = not (batch.events or batch.missed) and state == told
                if is_quiet and await _came(news):
                    continue
                await self.send(text_data=_message(batch, state))  # waits for a page that reads slowly
                told = state

    async def _recheck(self) -> None:
        refusal = None
        while refusal is None:
            await asyncio.sleep(self._recheck_seconds)
            try:
                refusal = await refusal_of(self.scope["session"].session_key)
            except DatabaseError as error:
                log.warning("live_page_ended", reason=str(error))
                refusal = CANNOT_TELL
        await self._refuse(refusal)

    async def _refuse(self, refusal: Refusal) -> None:
        telling = self._tasks[:1]
        for task in telling:
            task.cancel()
        await asyncio.gather(*telling, return_exceptions=True)
        with contextlib.suppress(OSError):  # it has gone by itself
            await self.close(code=refusal.code, reason=refusal.reason)


async def _came(news: asyncio.Event) -> bool:
    """Whether there is news before it is time for a sign of life."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_BEAT):
            return await news.wait()
    return False


def _message(batch: Batch, state: State) -> str:
    lines = [line(worker, event) for worker, event in batch.events]
    return encode({"state": state, "lines": lines, "missed": batch.missed, "now": now().isoformat()}).decode()


def _position(query: bytes) -> Position:
    """What the page says it has; what is no such list says that it has nothing."""
    given = parse_qs(query.decode("latin-1")).get("since", [""])[0]
    pairs = [one.partition(":") for one in given.split(",")[:_MOST_WORKERS]]
    return {worker: int(number) for worker, _, number in pairs if number.isdecimal() and len(number) < _LONGEST_NUMBER}
