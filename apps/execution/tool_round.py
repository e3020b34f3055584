"""The tool calls of one turn: which of them are made now, and how they are made at once."""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from typing import Final

from apps.execution.dialogue import Dialogue
from apps.execution.events import RunEvent, ToolFinished, ToolStarted
from apps.execution.model_turn import Call
from apps.execution.tool_calls import call_tool, over_limit
from apps.execution.tool_offer import ToolOffer
from apps.tools.tool import Tool, ToolOutput

_ASK_ALONE: Final = (
    "The tool '{name}' was not called: a person has to approve it, who can be asked only when the same answer calls no "
    "tool of the user's own program. Call it again by itself."
)


def to_make(dialogue: Dialogue, offer: ToolOffer, *, calls_client: bool) -> Sequence[Call]:
    """The gateway's calls that are made now, those of tools that there are not included.

    Of the others the dialogue gets a result, or waits for a person. `calls_client`: the answer ends with calls of the
    client's, and so cannot end with a question.
    """
    made = []
    for call in dialogue.calls:
        if call.number is not None:
            continue
        tool = offer.own.get(call.name)
        if tool is None or not tool.needs_approval:
            made.append(call)
        elif told := over_limit(tool):  # nobody is asked about a call that cannot be made
            dialogue.results[call.id] = told
        elif calls_client:
            dialogue.results[call.id] = _ASK_ALONE.format(name=call.name)
        else:
            dialogue.pending.append(call)
    return made


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
