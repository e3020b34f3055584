"""The two clocks of a run that is one generator: when its client is told that it goes on, and when it has to end."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

from apps.core.errors import UpstreamTimeout
from apps.execution.events import (
    ApprovalWanted,
    ClientToolCall,
    Forwarded,
    ReasoningDelta,
    RefusalDelta,
    RunEvent,
    TextDelta,
    UnderWay,
)

_UNDER_WAY_AFTER: Final = 1.0  # seconds
_TOLD: Final = frozenset({TextDelta, ReasoningDelta, RefusalDelta, ClientToolCall, ApprovalWanted, Forwarded})


async def in_time(
    events: AsyncGenerator[RunEvent, None], seconds: float, *, streamed: bool
) -> AsyncGenerator[RunEvent, None]:
    """The same events; with `streamed` also UnderWay, when there was nothing to tell a client for a second.

    After `seconds` the run is cancelled, and UpstreamTimeout raised. Closing this closes `events`.
    """
    deadline = _Deadline(seconds)
    try:
        async with aclosing(events):
            if streamed:
                async with aclosing(_until_told(events)) as beginning:
                    while (event := await deadline.kept(beginning)) is not None:
                        yield event
            while (event := await deadline.kept(events)) is not None:
                yield event
    finally:
        deadline.disarm()


async def _until_told(events: AsyncGenerator[RunEvent, None]) -> AsyncGenerator[RunEvent, None]:
    """The events up to the first that clients see, or that follows UnderWay. Each is awaited in a task, so that the
    second can pass meanwhile; later ones are spared that."""
    now = asyncio.get_running_loop().time
    at, is_told = now() + _UNDER_WAY_AFTER, False
    while not is_told and now() < at:
        step = asyncio.create_task(_next(events))
        try:
            done, _ = await asyncio.wait((step,), timeout=at - now())
            if not done:
                yield UnderWay()
            event = await step
        finally:
            if not step.done():
                step.cancel()
                await asyncio.wait((step,))
        if event is None:
            return
        is_told = type(event) in _TOLD
        yield event


async def _next(events: AsyncGenerator[RunEvent, None]) -> RunEvent | None:
    return await anext(events, None)


class _Deadline:
    """Cancels the task that waits for the run, as asyncio.timeout does, with one timer for all of its events.

    Who reads the events may be busy sending when the time is up: that is not cancelled, the next wait is.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._waiting: asyncio.Task[object] | None = None
        self._passed = False
        self._timer = asyncio.get_running_loop().call_later(seconds, self._pass)

    def _pass(self) -> None:
        self._passed = True
        if self._waiting:
            self._waiting.cancel()

    def disarm(self) -> None:
        self._timer.cancel()

    async def kept(self, events: AsyncGenerator[RunEvent, None]) -> RunEvent | None:
        """The next event, None when there is none. Raises UpstreamTimeout."""
        if self._is_over():
            raise self._late()
        self._waiting = task = asyncio.current_task()
        try:
            return await anext(events, None)
        except asyncio.CancelledError:
            if self._is_over() and task is not None and task.uncancel() == 0:
                raise self._late() from None
            raise
        finally:
            self._waiting = None

    def _is_over(self) -> bool:
        return self._passed

    def _late(self) -> UpstreamTimeout:
        return UpstreamTimeout(f"The run took longer than {self._seconds:g} s and was stopped.", code="run_timeout")
