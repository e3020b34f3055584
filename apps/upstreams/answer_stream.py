"""The body of a server's answer, read as its events or as a whole."""

import asyncio
from collections.abc import AsyncIterator
from typing import Final

import aiohttp

from apps.core.errors import UpstreamError, UpstreamTimeout, UpstreamUnreachable
from apps.upstreams import health
from apps.upstreams.capacity import Place
from apps.upstreams.refusals import look_at
from apps.upstreams.routing import Target
from apps.upstreams.silence import Silence

MAX_ANSWER: Final = 32 * 1024 * 1024  # bytes, of a line of a stream or of a whole answer
BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"  # which some servers of Windows put before an answer
_DONE: Final = b"[DONE]"


class AnswerStream:
    """The answer's events as raw JSON, those of one read together: they are there at once, and may be taken as one.

    The first one has been looked at: it is a JSON object, and no error. Whoever has a stream must `aclose()` it;
    closing early ends the connection.
    """

    def __init__(
        self, target: Target, response: aiohttp.ClientResponse, own_session: aiohttp.ClientSession | None
    ) -> None:
        self._target = target
        self._response = response
        self._own_session = own_session
        self._first: list[bytes] = []
        self._silence: Silence | None = None  # until the answer has begun, others watch the clock
        self._pieces: list[bytes] = []  # of a line that has no end yet
        self._spread: list[bytes] = []  # lines of data of an event that has no end yet
        self._held = 0  # bytes of both
        self._is_at_end = False
        self.is_complete = False  # the server said [DONE]
        self.place: Place | None = None  # left when the answer ends

    def __aiter__(self) -> AsyncIterator[list[bytes]]:
        return self._events()

    async def aclose(self) -> None:
        self._end()
        self._response.close()
        if self._own_session:
            await self._own_session.close()

    async def begin(self) -> None:
        """Wait for the first events. Raises UpstreamError when they are an error, none at all, or not JSON."""
        is_json = self._response.content_type == "application/json"
        self._first = await (self._whole() if is_json else self._next())
        if not self._first:
            raise self._nothing_came()
        look_at(self._target, self._first[0])
        if not self._is_at_end:
            self._silence = Silence(self._response.content, self._target.silence_timeout)

    def _nothing_came(self) -> UpstreamError:
        if (kind := self._response.content_type) != "text/event-stream":
            return UpstreamError(f"Upstream '{self._target.slug}' answered with {kind} instead of a stream of events.")
        return UpstreamUnreachable(
            f"Upstream '{self._target.slug}' ended its answer without having begun it.", code="upstream_cut"
        )

    async def _whole(self) -> list[bytes]:
        """Some servers answer whole although a stream was asked for; others only call their stream JSON."""
        head = (await _piece(self._target, self._response)).removeprefix(BYTE_ORDER_MARK)
        if not head.lstrip().startswith(b"{"):
            return self._events_in(self._lines(head)) or await self._next()
        self._is_at_end = True
        return [head + await all_of(self._target, self._response)]

    async def _events(self) -> AsyncIterator[list[bytes]]:
        events, self._first = self._first, []
        try:
            while events:
                yield events
                events = [] if self.is_complete else await self._next()
            if self.is_complete:
                await self.finish()
        except UpstreamError as error:
            health.note_failure(self._target.slug, error, cooldown=self._target.cooldown, has_begun=True)
            raise
        finally:
            self._end()

    def _end(self) -> None:
        if self._silence:
            self._silence.end()
        if self.place:
            self.place.leave()

    async def _next(self) -> list[bytes]:
        """The events of the next read that brings any; none at the end."""
        content = self._response.content
        read = self._silence.read if self._silence else content.readany
        try:
            while not self._is_at_end and (data := content.read_nowait() or await read()):
                if (events := self._events_in(self._lines(data))) or self.is_complete:
                    return events
        except TimeoutError as error:
            raise UpstreamTimeout(
                f"Upstream '{self._target.slug}' was silent for {self._target.silence_timeout:g} s in the middle of "
                "its answer.",
                code="upstream_silent",
            ) from error
        except aiohttp.ClientError as error:
            raise _cut(self._target) from error
        self._is_at_end = True
        last = b"".join(self._pieces)  # a line that lacks its end
        self._pieces.clear()
        return self._events_in([last, b""])

    def _lines(self, data: bytes) -> list[bytes]:
        """Those that end in `data`."""
        # Split on the line feed alone: U+2028 and friends may stand inside a JSON string.
        lines = data.split(b"\n")
        if len(lines) > 1 and self._pieces:
            lines[0] = b"".join((*self._pieces, lines[0]))
            self._pieces.clear()
            self._held = sum(map(len, self._spread))
        if rest := lines.pop():
            self._pieces.append(rest)
            self._hold(rest)
        return lines

    def _hold(self, data: bytes) -> None:
        self._held += len(data)
        if self._held > MAX_ANSWER:
            raise UpstreamError(f"Upstream '{self._target.slug}' sent an event of over {MAX_ANSWER} bytes.")

    def _events_in(self, lines: list[bytes]) -> list[bytes]:
        events: list[bytes] = []
        for line in lines:
            if line.startswith(b"data:"):
                event = line[5:].strip()
                if event == _DONE:
                    events += self._gathered()
                    self.is_complete = True
                    break
                if event.endswith(b"}") and not self._spread:  # whole: others need no blank line to be told
                    events.append(event)
                elif event:
                    self._spread.append(event)
                    self._hold(event)
            elif line.startswith(b"{"):  # some servers report an error as a bare line
                events.append(line)
            elif self._spread and not line.strip():
                events += self._gathered()
            elif line.startswith(BYTE_ORDER_MARK):
                events += self._events_in([line[len(BYTE_ORDER_MARK) :]])
        return events

    def _gathered(self) -> list[bytes]:
        """The event whose data came on several lines, if there is one."""
        if not self._spread:
            return []
        event = b"\n".join(self._spread)
        self._spread.clear()
        self._held = sum(map(len, self._pieces))
        return [event]

    async def finish(self) -> None:
        """Read to the end of the body, which follows at once, so that the connection can serve again."""
        try:
            async with asyncio.timeout(0.05):
                while await self._response.content.readany():
                    pass
        except (TimeoutError, aiohttp.ClientError):
            pass  # the answer is whole; only the connection is lost


async def all_of(target: Target, response: aiohttp.ClientResponse) -> bytes:
    """What is left of the answer. Raises UpstreamError when it is cut, or has over MAX_ANSWER bytes."""
    pieces: list[bytes] = []
    size = 0
    while not response.content.at_eof():
        pieces.append(piece := await _piece(target, response))
        size += len(piece)
        if size > MAX_ANSWER:
            raise UpstreamError(f"Upstream '{target.slug}' sent an answer of over {MAX_ANSWER} bytes.")
    return b"".join(pieces)


async def _piece(target: Target, response: aiohttp.ClientResponse) -> bytes:
    try:
        return await response.content.readany()
    except aiohttp.ClientError as error:
        raise _cut(target) from error


def _cut(target: Target) -> UpstreamUnreachable:
    return UpstreamUnreachable(
        f"Upstream '{target.slug}' closed the connection in the middle of its answer.", code="upstream_cut"
    )
