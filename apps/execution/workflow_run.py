"""A run of a function that calls Runner itself, such as Agent Builder's `run_workflow`."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any

from agents import ModelSettings, RunResultStreaming

from apps.execution.events import RunEvent, UnderWay
from apps.execution.forwarding import ForwardedEvent, Forwarding, forwarding
from apps.execution.model_settings import model_settings
from apps.execution.order import ModuleOrder
from apps.execution.timing import Deadline, when_under_way
from apps.execution.transcript import Events, Transcript, told_by


async def run_workflow(order: ModuleOrder) -> AsyncGenerator[RunEvent, None]:
    """The events of the runs that it starts, then what it returned. Closing it cancels the function."""
    queue: asyncio.Queue[ForwardedEvent | UnderWay | None] = asyncio.Queue()
    order.calls.backlog = queue.qsize
    chosen = model_settings(order.options.parameters)
    forward = Forwarding(
        queue.put_nowait, settings=ModelSettings(**chosen) if chosen else None, max_turns=order.options.max_turns
    )
    forwarding.set(forward)
    transcript = Transcript(of_workflow=True)
    task = asyncio.create_task(_call_workflow(order, forward))
    task.add_done_callback(lambda _: queue.put_nowait(None))
    under_way = when_under_way(queue)
    deadline = Deadline(task, order.options.run_timeout)
    told = told_by(transcript, _until_none(queue), order.calls)
    try:
        async for event in told:
            yield event
        deadline.check()
        answer = _answer_of(await task)
        if answer is None and forward.last:
            answer = _last_word(forward.last, transcript)
        for last in (transcript.release(), transcript.final(answer)):
            if last is not None:
                yield last
    finally:
        await told.aclose()
        under_way.cancel()
        deadline.disarm()
        if not task.done():
            task.cancel()
            with contextlib.suppress(BaseException):
                await task


async def _until_none(queue: asyncio.Queue[ForwardedEvent | UnderWay | None]) -> Events:
    while (event := await queue.get()) is not None:
        yield event


async def _call_workflow(order: ModuleOrder, forward: Forwarding) -> Any:
    export = order.generation.export
    assert export.workflow is not None
    argument = export.workflow_input(input_as_text=order.prompt) if export.workflow_input else order.prompt
    returned = await export.workflow(argument)
    if isinstance(returned, RunResultStreaming):  # handed over for its caller to read
        with forward.run(is_held=False) as tell:
            async for event in returned.stream_events():
                tell(event)
    return returned


def _last_word(result: RunResultStreaming, transcript: Transcript) -> Any:
    """The answer of a workflow that returns nothing: what its last run came to, unless that is a classifier's JSON."""
    if result.interruptions:
        # A function half-way through cannot be stored as a run's state is.
        names = ", ".join(f"'{item.name}'" for item in result.interruptions)
        return f"The tool {names} needs a person's approval, for which a workflow cannot wait. It was not called."
    is_structured = result.last_agent.output_type not in (None, str)
    return None if is_structured and transcript.has_told else result.final_output


def _answer_of(returned: Any) -> Any:
    """What a workflow returned as its answer: Agent Builder's `output_text`, a run's final output, or the value."""
    if isinstance(returned, dict) and "output_text" in returned:
        return returned["output_text"]
    return getattr(returned, "final_output", returned)
