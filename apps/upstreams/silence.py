"""A clock for the silences of a stream: one timer for all of them, however many chunks come."""

import asyncio
import weakref

from aiohttp import StreamReader


class Silence:
    """While somebody waits for `content` longer than `patience` seconds, the wait ends with a TimeoutError.

    Only waiting counts: a reader that takes its time does not make its server a silent one.
    """

    def __init__(self, content: StreamReader, patience: float) -> None:
        self._content = content
        self._patience = patience
        self._loop = asyncio.get_running_loop()
        self._waits_since = 0.0  # the loop's seconds; 0 while nobody waits
        self._arm(patience)

    async def read(self) -> bytes:
        """The next bytes; none at the end."""
        self._waits_since = self._loop.time()
        try:
            return await self._content.readany()
        finally:
            self._waits_since = 0.0

    def end(self) -> None:
        self._timer.cancel()

    def _arm(self, seconds: float) -> None:
        # Weak, so that a stream that was forgotten is not kept alive by its own clock.
        self._timer = self._loop.call_later(seconds, _look, weakref.ref(self))

    def look(self) -> None:
        waited = self._loop.time() - self._waits_since if self._waits_since else 0.0
        if waited >= self._patience:
            self._content.set_exception(TimeoutError())
        else:
            self._arm(self._patience - waited)


def _look(of: "weakref.ref[Silence]") -> None:
    if silence := of():
        silence.look()
