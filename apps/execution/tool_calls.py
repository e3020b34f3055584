"""The one path of every tool call: may it be made, is it within its bounds, and what came of it.

Calls of the gateway's own tools by declared agents come here from declared_run.py; calls that the SDK makes, of a
module's tools and of the gateway's, from governed_tools.py.
"""

from apps.execution.tool_access import ask_for_tool, sentence
from apps.tools.invoke import invoke
from apps.tools.tool import Tool, ToolOutput


async def call_tool(tool: Tool, arguments: str) -> ToolOutput:
    """Call a tool of the gateway for the run that goes on here, with the JSON text that the model wrote.

    Raises nothing but CancelledError: a refusal or failure is told to the model.
    """
    decision = ask_for_tool(tool.name, tool.source)
    if not decision.allowed:
        return ToolOutput(sentence(tool.name, decision), is_error=True)
    return await invoke(tool, arguments)
