"""The two clocks of a run: when its client is told that it goes on, and when it has to end."""

import asyncio
from typing import Any

from agents import RunResultStreaming
from django.conf import settings

from apps.core.errors import UpstreamTimeout
from apps.execution.events import UnderWay

_UNDER_WAY_AFTER = 1.0  # seconds


def when_under_way(queue: "asyncio.Queue[Any]") -> asyncio.TimerHandle:
    """Puts UnderWay into the queue of a run's events after a second, unless it is cancelled."""
    return asyncio.get_running_loop().call_later(_UNDER_WAY_AFTER, queue.put_nowait, UnderWay())


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
            raise UpstreamTimeout(f"The run took longer than {self._seconds:g} s and was stopped.", code="run_timeout")
