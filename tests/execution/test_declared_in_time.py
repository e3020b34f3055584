"""The two clocks of a declared agent's run."""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from apps.core.errors import UpstreamTimeout
from apps.execution.events import RunEvent, TextDelta, ToolStarted, UnderWay
from apps.execution.in_time import in_time

TOOL = ToolStarted("1", "look", "{}")
TEXT = TextDelta("x")


class Run:
    """Yields the events, waiting before each for as long as is told; knows how it ended."""

    def __init__(self, *steps: tuple[float, RunEvent]) -> None:
        self.steps = steps
        self.ended = ""

    async def events(self) -> AsyncGenerator[RunEvent, None]:
        try:
            for seconds, event in self.steps:
                await asyncio.sleep(seconds)
                yield event
        except asyncio.CancelledError:
            self.ended = "cancelled"
            raise
        except GeneratorExit:
            self.ended = "closed"
            raise


async def told(
    run: Run, seconds: float = 60, *, streamed: bool = True, into: list[RunEvent] | None = None
) -> list[RunEvent]:
    seen = [] if into is None else into
    async for event in in_time(run.events(), seconds, streamed=streamed):
        seen.append(event)  # what came before an error counts
    return seen


async def test_quick_events_are_handed_on_alone() -> None:
    assert await told(Run((0, TOOL), (0, TEXT), (0, TEXT))) == [TOOL, TEXT, TEXT]
    assert await told(Run()) == []


async def test_client_hears_once_that_a_silent_run_goes_on() -> None:
    run = Run((0, TOOL), (1.1, TOOL), (0, TEXT), (1.1, TEXT))

    assert await told(run) == [TOOL, UnderWay(), TOOL, TEXT, TEXT]


async def test_whoever_waits_for_all_of_it_is_not_told() -> None:
    assert await told(Run((1.1, TEXT)), streamed=False) == [TEXT]


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("before", [[], [(0.0, TOOL)], [(0.0, TEXT)]])
async def test_run_is_cancelled_when_its_time_is_up(before: list[tuple[float, RunEvent]], streamed: bool) -> None:
    run = Run(*before, (60, TEXT))
    seen: list[RunEvent] = []

    with pytest.raises(UpstreamTimeout) as caught:
        await told(run, 0.05, streamed=streamed, into=seen)

    assert (caught.value.code, caught.value.message) == (
        "run_timeout",
        "The run took longer than 0.05 s and was stopped.",
    )
    assert (seen, run.ended) == ([event for _, event in before], "cancelled")


async def test_reader_that_is_busy_when_the_time_is_up_is_not_cancelled() -> None:
    run = Run((0, TEXT), (0, TEXT))
    events = in_time(run.events(), 0.01, streamed=True)
    assert await anext(events) == TEXT

    await asyncio.sleep(0.05)

    with pytest.raises(UpstreamTimeout):
        await anext(events)
    assert run.ended == "closed"


@pytest.mark.parametrize("first", [0.0, 60.0])
async def test_run_is_closed_with_its_reader(first: float) -> None:
    """Before its first event, and while it waits for a further one."""
    run = Run((first, TEXT), (60, TEXT))
    reading = asyncio.create_task(told(run))
    await asyncio.sleep(0.02)

    reading.cancel()

    with pytest.raises(asyncio.CancelledError):
        await reading
    assert run.ended == "cancelled"


async def test_closing_after_the_notice_ends_what_is_under_way() -> None:
    run = Run((60, TEXT))
    events = in_time(run.events(), 60, streamed=True)
    assert await anext(events) == UnderWay()

    await events.aclose()

    assert run.ended == "cancelled"
