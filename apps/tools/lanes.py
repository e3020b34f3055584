"""What a tool needs between its calls in one event loop: its compiled schema, its slots, its secrets."""

import asyncio
from functools import cached_property
from typing import Any, Final
from weakref import WeakKeyDictionary

from jsonschema.protocols import Validator

from apps.tools import arguments
from apps.tools.redaction import redacted, secret_parts
from apps.tools.tool import CallFailed, HttpCall, Tool

_MOST_LANES: Final = 2_000  # of tools that were renamed or are gone, those without a call are forgotten


class Slot:
    """The right to call a tool now. Given back once, whoever asks for it."""

    def __init__(self, slots: asyncio.Semaphore) -> None:
        self._slots = slots
        self._is_held = True

    def leave(self) -> None:
        if self._is_held:
            self._is_held = False
            self._slots.release()

    def leave_after(self, work: "asyncio.Future[Any]") -> None:
        """When the work has ended, which nothing can stop: a thread."""
        if self._is_held:
            self._is_held = False
            work.add_done_callback(lambda _: self._slots.release())


class Lane:
    """Of one tool. The slots outlive an edit that does not change their number."""

    def __init__(self, tool: Tool, before: "Lane | None" = None) -> None:
        self.tool = tool
        self._slots = before.slots_for(tool) if before else asyncio.Semaphore(tool.max_concurrency)
        self.waiting = 0

    def slots_for(self, tool: Tool) -> asyncio.Semaphore:
        same = self.tool.max_concurrency == tool.max_concurrency
        return self._slots if same else asyncio.Semaphore(tool.max_concurrency)

    @cached_property
    def validator(self) -> Validator:
        return arguments.validator(self.tool.parameters)

    @cached_property
    def _secrets(self) -> tuple[str, ...]:
        call = self.tool.call
        return secret_parts(call.secret_headers.values() if isinstance(call, HttpCall) else ())

    def redacted(self, text: str) -> str:
        """Without the tool's own secrets, which a server may send back."""
        return redacted(text, self._secrets)

    @property
    def is_idle(self) -> bool:
        return not self.waiting and self._slots._value >= self.tool.max_concurrency  # noqa: SLF001  # nothing else tells

    async def enter(self) -> Slot:
        """Waits for a slot as long as a call may take at most. Raises CallFailed."""
        self.waiting += 1
        try:
            async with asyncio.timeout(self.tool.timeout):
                await self._slots.acquire()
        except TimeoutError as error:
            raise CallFailed(
                f"no other call of it ended for {self.tool.timeout:g} s.",
                outcome="busy",
            ) from error
        finally:
            self.waiting -= 1
        return Slot(self._slots)


_lanes: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Lane]] = WeakKeyDictionary()


def lane_of(tool: Tool) -> Lane:
    """In the running event loop."""
    lanes = _lanes.setdefault(asyncio.get_running_loop(), {})
    lane = lanes.get(tool.name)
    if lane is None or (lane.tool is not tool and lane.tool != tool):
        if len(lanes) >= _MOST_LANES:
            for name in [name for name, one in lanes.items() if one.is_idle]:
                del lanes[name]
        lane = lanes[tool.name] = Lane(tool, lane)
    return lane


def waiting() -> int:
    """How many calls of this process wait for a slot."""
    return sum(lane.waiting for lanes in list(_lanes.values()) for lane in list(lanes.values()))
