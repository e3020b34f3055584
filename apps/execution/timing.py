"""The two clocks of a run: when its client is told that it goes on, and when it has to end."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from agents import RunResultStreaming
from django.conf import settings

from apps.catalog.run_options import RunOptions
from apps.core.errors import UpstreamError, UpstreamTimeout
from apps.execution.events import RunEvent, UnderWay

T = TypeVar("T")

_UNDER_WAY_AFTER = 1.0  # seconds


def when_under_way(queue: "asyncio.Queue[Any]") -> asyncio.TimerHandle:
    """Puts UnderWay into the queue of a run's events after a second, unless it is cancelled."""
    return asyncio.get_running_loop().call_later(_UNDER_WAY_AFTER, queue.put_nowait, UnderWay())


async def with_under_way(events: AsyncGenerator[RunEvent, None]) -> AsyncGenerator[RunEvent, None]:
    """The same events, with UnderWay before them when the first one takes more than a second."""
    first = asyncio.ensure_future(anext(events))
    try:
        if not (await asyncio.wait({first}, timeout=_UNDER_WAY_AFTER))[0]:
            yield UnderWay()
        yield await first
        async for event in events:
            yield event
    finally:
        if not first.done():
            first.cancel()
            await asyncio.wait({first})
        await events.aclose()


class RunTime:
    """How long a run may still take, by its options or GATEWAY_RUN_TIMEOUT."""

    def __init__(self, options: RunOptions) -> None:
        self._seconds: float = options.run_timeout or settings.GATEWAY_RUN_TIMEOUT
        self._end = asyncio.get_running_loop().time() + self._seconds
        self._closing: asyncio.Future[None] | None = None

    async def within(self, work: Awaitable[T]) -> T:
        """What `work` returns. Raises UpstreamTimeout when the time is up before."""
        timeout = asyncio.timeout_at(self._end)
        try:
            async with timeout:
                return await work
        except TimeoutError as error:
            if timeout.expired():
                raise _too_long(self._seconds) from error
            raise

    @contextmanager
    def closing(self, close: Callable[[], Coroutine[Any, Any, None]]) -> Iterator[None]:
        """Calls `close` when the time is up, and raises UpstreamTimeout instead of the error that comes of it.

        For what reads an answer piece by piece: one timer, where a time-out around every piece would cost as much as
        handing it on.
        """
        timer = asyncio.get_running_loop().call_at(self._end, self._close, close)
        try:
            yield
        except UpstreamError as error:
            if self._closing:
                raise _too_long(self._seconds) from error
            raise
        finally:
            timer.cancel()

    def _close(self, close: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._closing = asyncio.ensure_future(close())


class Deadline:
    """Ends a run that takes longer than `seconds`, or than GATEWAY_RUN_TIMEOUT where there are none."""

    def __init__(self, run: RunResultStreaming | asyncio.Task[Any], seconds: float | None = None) -> None:
        self._run = run
        self._passed = False
        self._seconds: float = settings.GATEWAY_RUN_TIMEOUT if seconds is None else seconds
        self._timer = asyncio.get_running_loop().call_later(self._seconds, self._pass)

    def _pass(self) -> None:
        self._passed = True
        self._run.cancel()

    def disarm(self) -> None:
        self._timer.cancel()

    def check(self) -> None:
        """Raises UpstreamTimeout when that is why the run has ended."""
        if self._passed:
            raise _too_long(self._seconds)


def _too_long(seconds: float) -> UpstreamTimeout:
    return UpstreamTimeout(f"The run took longer than {seconds:g} s and was stopped.", code="run_timeout")
