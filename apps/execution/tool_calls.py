"""The one path of every tool call: may it be made, is it within its bounds, and what came of it.

Calls of the gateway's own tools by declared agents come here from declared_run.py; calls that the SDK makes, of a
module's tools and of the gateway's, from governed_tools.py and observed_tools.py.
"""

from agents import FunctionTool

from apps.execution import callers
from apps.execution.tool_access import ask_for_tool, sentence
from apps.execution.tool_records import Outcome, Source, ToolCall, under_way
from apps.tools import lent
from apps.tools.invoke import invoke
from apps.tools.tool import Tool, ToolOutput


async def call_tool(tool: Tool, arguments: str) -> ToolOutput:
    """Call a tool of the gateway for the run that goes on here, with the JSON text that the model wrote.

    Raises nothing but CancelledError: a refusal or failure is told to the model.
    """
    decision = ask_for_tool(tool.name, tool.source)
    if not decision.allowed:
        _call_of(tool).refused(Outcome.DENIED)
        return ToolOutput(sentence(tool.name, decision), is_error=True)
    return await call_allowed(tool, arguments)


async def call_allowed(tool: Tool, arguments: str) -> ToolOutput:
    """The same, of a call that the policy has been asked about: by the SDK's way to a tool, in governed_tools.py."""
    if told := over_limit(tool):
        return ToolOutput(told, is_error=True)
    if caller := callers.current():
        caller.tool_calls[tool.name] += 1
    with under_way(Source.of_gateway(tool), tool.name, tool.source) as call:
        call.contents(arguments=arguments)
        output = await invoke(tool, arguments)
        call.contents(output=output.text)
        if output.is_error:
            call.failed(output.text)
        call.made(output.outcome or (Outcome.ERROR if output.is_error else Outcome.OK))
    return output


def over_limit(tool: Tool) -> str:
    """What the model is told when the run may not call the tool once more, which is recorded; else ""."""
    most, caller = tool.max_calls_per_run, callers.current()
    if most is None or caller is None or caller.tool_calls[tool.name] < most:
        return ""
    _call_of(tool).refused(Outcome.LIMIT)
    times = "once" if most == 1 else f"{most} times"
    return f"The tool '{tool.name}' may be called {times} in a run, and has been. Go on without it."


def unavailable(tool: FunctionTool) -> str:
    """What the model is told of a tool of the gateway that is gone, or that the run has called as often as it may; ""
    of one that may be called, and of a module's own. Nobody is asked to approve a call that would come to this."""
    known = lent.lent_of(tool)
    if known is None:
        return ""
    if current := known.current:
        return over_limit(current)
    ToolCall(Source.of_gateway(known.shown), known.name, known.source).refused(Outcome.MISSING)
    return lent.missing(known.name)


def _call_of(tool: Tool) -> ToolCall:
    return ToolCall(Source.of_gateway(tool), tool.name, tool.source)
