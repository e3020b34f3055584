"""Answers of tools that are kept for a while, and calls that equal ones wait for instead of being made again."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from hashlib import sha256
from time import monotonic
from typing import Any, Final
from weakref import WeakKeyDictionary

from apps.tools.tool import Tool, ToolOutput

MOST_ANSWERS: Final = 1_000
MOST_BYTES: Final = 16 * 1024 * 1024

Key = tuple[str, bytes]
Make = Callable[[], Coroutine[Any, Any, ToolOutput]]


@dataclass(frozen=True, slots=True)
class _Answer:
    tool: Tool  # another value of the tool is another tool
    output: ToolOutput
    until: float  # monotonic seconds
    size: int


@dataclass(slots=True)
class _Flight:
    tool: Tool
    task: "asyncio.Task[ToolOutput]"
    waiting: int = 0


class Answers:
    """Of one event loop. Bounded by number and bytes; the one that was asked for longest ago goes first."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Key, _Answer] = OrderedDict()
        self._flights: dict[Key, _Flight] = {}
        self._bytes = 0

    def find(self, tool: Tool, arguments: bytes) -> ToolOutput | None:
        key = _key(tool, arguments)
        answer = self._kept.get(key)
        if answer is None:
            return None
        if answer.until <= monotonic() or answer.tool != tool:
            self._forget(key)
            return None
        self._kept.move_to_end(key)
        return answer.output

    async def make(self, tool: Tool, arguments: bytes, make: Make) -> tuple[ToolOutput, bool]:
        """The output of a call, and whether it was made for this caller. Raises what it raises.

        Equal calls at once make one, which ends early only when nobody waits for it any longer.
        """
        key = _key(tool, arguments)
        flight = self._flights.get(key)
        is_first = flight is None or flight.tool != tool
        if flight is None or is_first:
            flight = self._flights[key] = _Flight(tool, asyncio.create_task(make()))
        try:
            return await self._wait(key, flight), is_first
        finally:
            if flight.task.done():
                self._end(key, flight)

    async def _wait(self, key: Key, flight: _Flight) -> ToolOutput:
        flight.waiting += 1
        try:
            return await asyncio.shield(flight.task)
        finally:
            flight.waiting -= 1
            if not flight.waiting and not flight.task.done():
                self._end(key, flight)  # whoever comes now begins anew
                flight.task.cancel()
                await _ended(flight.task)

    def _end(self, key: Key, flight: _Flight) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]
            if flight.task.done() and not flight.task.cancelled() and flight.task.exception() is None:
                self._keep(key, flight.tool, flight.task.result())

    def _keep(self, key: Key, tool: Tool, output: ToolOutput) -> None:
        size = len(output.text.encode()) + len(key[1]) + 200
        if output.is_error or size > MOST_BYTES:
            return
        self._forget(key)
        self._kept[key] = _Answer(tool, output, monotonic() + tool.cache_seconds, size)
        self._bytes += size
        while len(self._kept) > MOST_ANSWERS or self._bytes > MOST_BYTES:
            self._forget(next(iter(self._kept)))

    def _forget(self, key: Key) -> None:
        if answer := self._kept.pop(key, None):
            self._bytes -= answer.size


def _key(tool: Tool, arguments: bytes) -> Key:
    return tool.name, sha256(arguments).digest()


async def _ended(task: "asyncio.Task[ToolOutput]") -> None:
    await asyncio.wait([task])
    if not task.cancelled():
        task.exception()  # nobody is left to be told


_answers: WeakKeyDictionary[asyncio.AbstractEventLoop, Answers] = WeakKeyDictionary()


def answers() -> Answers:
    """Those of the running event loop."""
    return _answers.setdefault(asyncio.get_running_loop(), Answers())
