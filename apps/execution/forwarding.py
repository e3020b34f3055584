"""The runs that a workflow starts itself, as one stream of events for the request that waits for it."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from agents import ModelSettings, RunResultStreaming
from agents.stream_events import StreamEvent


@dataclass(frozen=True, slots=True)
class RunBegan:
    """`is_held`: guardrails of the run as a whole judge its output, which nobody may read before."""

    is_held: bool


@dataclass(frozen=True, slots=True)
class RunEnded:
    """`ended_well`: it did not raise."""

    ended_well: bool


ForwardedEvent = StreamEvent | RunBegan | RunEnded


@dataclass(slots=True, eq=False)
class _Run:
    waiting: list[ForwardedEvent] = field(default_factory=list)
    has_ended: bool = False


class Forwarding:
    """Runs at the same time are told one after the other, in the order in which they began: a person reads them.

    `settings` and `max_turns` are what an operator chose for every run of the workflow.
    """

    def __init__(
        self,
        emit: Callable[[ForwardedEvent], None],
        *,
        settings: ModelSettings | None = None,
        max_turns: int | None = None,
    ) -> None:
        self.settings = settings
        self.max_turns = max_turns
        self._loop = asyncio.get_running_loop()
        self._emit = emit
        self._runs: list[_Run] = []  # the first one is being told
        self.last: RunResultStreaming | None = None  # the newest run that ended well

    @contextmanager
    def run(self, *, is_held: bool) -> Iterator[Callable[[StreamEvent], None]]:
        """What takes the events of one run, from whichever thread."""
        run = _Run()
        self._do(self._begin, run)
        self._do(self._tell, run, RunBegan(is_held))
        ended_well = False
        try:
            yield lambda event: self._do(self._tell, run, event)
            ended_well = True
        finally:
            self._do(self._tell, run, RunEnded(ended_well))
            self._do(self._end, run)

    def _do(self, function: Callable[..., None], *arguments: Any) -> None:
        if asyncio.get_running_loop() is self._loop:
            function(*arguments)
        else:  # Runner.run_sync in a worker thread has a loop of its own
            self._loop.call_soon_threadsafe(function, *arguments)

    def _begin(self, run: _Run) -> None:
        self._runs.append(run)

    def _tell(self, run: _Run, event: ForwardedEvent) -> None:
        if self._runs[0] is run:
            self._emit(event)
        else:
            run.waiting.append(event)

    def _end(self, run: _Run) -> None:
        run.has_ended = True
        while self._runs and self._runs[0].has_ended:
            self._runs.pop(0)
            if self._runs:
                waiting, self._runs[0].waiting = self._runs[0].waiting, []
                for event in waiting:
                    self._emit(event)


# Set while a workflow runs; cleared inside the runs that it starts, whose tools' own runs are nobody's answer.
forwarding: ContextVar[Forwarding | None] = ContextVar("forwarding", default=None)
