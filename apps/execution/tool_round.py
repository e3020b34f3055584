"""The calls of one turn, made at once."""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Mapping

from apps.execution.events import RunEvent, ToolFinished, ToolStarted
from apps.execution.model_turn import Call
from apps.execution.tool_calls import call_tool
from apps.tools.tool import Tool, ToolOutput


async def make_calls(
    calls: Iterable[Call], tools: Mapping[str, Tool], results: dict[str, str]
) -> AsyncGenerator[RunEvent, None]:
    """Puts what came of each call into `results`, by its id. Closing this early cancels the calls, and waits for that.

    ToolStarted of all, in order; ToolFinished as they finish.
    """
    running = {asyncio.create_task(call_tool(tools[call.name], call.arguments)): call for call in calls}
    try:
        for call in list(running.values()):
            yield ToolStarted(call.id, call.name, call.arguments)
        while running:
            await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in [one for one in running if one.done()]:
                call = running.pop(task)
                results[call.id] = task.result().text
                yield ToolFinished(call.id, results[call.id])
    finally:
        await _cancel(running)


async def _cancel(tasks: Iterable[asyncio.Task[ToolOutput]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
