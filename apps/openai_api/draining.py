"""Runs that go on when their client leaves, because an operator wants their effects more than their answers.

Such a run has a task of its own, and its events pass a short queue to whoever answers the client. When that one stops
reading, the rest is read and dropped, so that the run comes to its end: within its own time-out, with its Run and its
limits settled as ever.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Final

import structlog

from apps.core.errors import GatewayError
from apps.execution.events import RunEvent

_AHEAD: Final = 100  # events that a run may be ahead of its client

log = structlog.get_logger(__name__)

_End = BaseException | None
_runs: set[asyncio.Task[None]] = set()


async def drained(events: AsyncGenerator[RunEvent, None]) -> AsyncGenerator[RunEvent, None]:
    """The same events. Closing this early leaves the run alone, instead of cancelling it."""
    queue: asyncio.Queue[RunEvent | tuple[_End]] = asyncio.Queue(_AHEAD)
    left = asyncio.Event()
    task = asyncio.create_task(_run(events, queue, left))
    _runs.add(task)
    task.add_done_callback(_runs.discard)
    try:
        while not isinstance(event := await queue.get(), tuple):
            yield event
        if event[0] is not None:
            raise event[0]
    finally:
        left.set()
        while not queue.empty():  # the run may be waiting for room
            queue.get_nowait()


async def _run(
    events: AsyncGenerator[RunEvent, None], queue: asyncio.Queue[RunEvent | tuple[_End]], left: asyncio.Event
) -> None:
    failure: _End = None
    try:
        async with contextlib.aclosing(events):
            async for event in events:
                if not left.is_set():
                    await queue.put(event)
    except Exception as error:  # noqa: BLE001  # whoever answers the client raises it, if there is one
        failure = error
    if not left.is_set():
        await queue.put((failure,))
    elif failure is not None and not isinstance(failure, GatewayError):  # of that one the Run tells
        log.error("drained_run_crashed", exc_info=failure)


async def finish(patience: float) -> None:
    """Before the process ends: wait this many seconds for runs that go on, then cancel them. Their Runs are written."""
    if _runs:
        log.info("waiting_for_runs", count=len(_runs))
        _, late = await asyncio.wait(_runs, timeout=patience)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
