"""Tool calls that the SDK makes, recorded as they are made; nothing about them is changed.

Where each kind is made inside the SDK, and how this gets there: governed_tools.py. Calls of the gateway's own tools are
recorded in tool_calls.py, through which they are made.
"""

from collections.abc import Callable
from typing import Any, Final

from agents import FunctionTool, Tool
from agents.items import ToolApprovalItem

from apps.execution import callers
from apps.execution.models import StepKind
from apps.execution.steps import Step
from apps.execution.tool_modules import public_name, source_of
from apps.execution.tool_records import Outcome, Source, ToolCall, in_words, under_way
from apps.tools.lent import lent_of
from apps.upstreams.calls import current_step

Asynchronous = Callable[..., Any]

# The calls that the model's provider makes: the type of the item that tells of one, the tool's name and its module's.
HOSTED: Final = {
    "code_interpreter_call": ("code_interpreter", "hosted.CodeInterpreterTool"),
    "file_search_call": ("file_search", "hosted.FileSearchTool"),
    "image_generation_call": ("image_generation", "hosted.ImageGenerationTool"),
    "web_search_call": ("web_search", "hosted.WebSearchTool"),
}


def name_of(tool: Tool) -> str:
    """What rules call it: a tool of the gateway by the gateway's name, whatever a module calls its copy."""
    lent = lent_of(tool)
    return lent.name if lent else tool.name


def module_of(tool: Tool) -> str:
    """As tool_modules.source_of has it, for whoever may be calling here."""
    return source_of(tool, tuple({one.package for one in callers.possible()}))


def call_of(tool: Tool) -> ToolCall:
    return ToolCall(*_told(tool))


def _told(tool: Tool) -> tuple[Source, str, str]:
    if lent := lent_of(tool):
        return Source.of_gateway(lent.known), lent.name, lent.source
    module = public_name(module_of(tool))
    return Source.MCP if module.startswith("mcp.") else Source.NATIVE, tool.name, module


def function_call(original: Asynchronous) -> Asynchronous:
    """Of a function tool, an MCP tool or an agent used as one: after approvals, guardrails and hooks. What the SDK made
    a sentence of for the model counts as an error; a sentence that the module makes of it is the tool's answer."""

    async def invoke_function_tool_with_metadata(*, function_tool: FunctionTool, **options: Any) -> Any:
        if lent_of(function_tool):
            return await original(function_tool=function_tool, **options)
        with under_way(*_told(function_tool)) as call:
            call.contents(arguments=options["arguments"])
            result = await original(function_tool=function_tool, **options)
            call.contents(output=result.output)
            if result.is_sdk_generated_error:
                if not (call.step and call.step.error):
                    call.failed(str(result.output))
                call.made(Outcome.ERROR)
        return result

    return invoke_function_tool_with_metadata


def raised(error: BaseException) -> None:
    """By the tool that is called here, whose model hears a sentence of the SDK instead."""
    step = current_step.get()
    if isinstance(step, Step) and step.kind == StepKind.TOOL:
        step.error = in_words(error)


def native_call(name: str, tool: str) -> Callable[[Asynchronous], Asynchronous]:
    """Of a tool that the SDK runs. `name` is what it calls the call, which has the tool as `tool`."""

    def observed(original: Asynchronous) -> Asynchronous:
        async def execute(**options: Any) -> Any:
            with under_way(*_told(getattr(options[name], tool))) as call:
                item = await original(**options)
                if isinstance(item, ToolApprovalItem):
                    call.forget()
            return item

        return execute

    return observed


def hosted_calls(original: Asynchronous) -> Asynchronous:
    """Those that an answer of the model tells of."""

    async def get_single_step_result_from_response(*, new_response: Any, **options: Any) -> Any:
        for item in new_response.output:
            kind = getattr(item, "type", "")
            if kind in HOSTED:
                ToolCall(Source.NATIVE, *HOSTED[kind]).made_elsewhere(_outcome(item))
            elif kind == "mcp_call":
                module = f"hosted.HostedMCPTool.{item.server_label}"
                ToolCall(Source.MCP, item.name, module).made_elsewhere(_outcome(item))
        return await original(new_response=new_response, **options)

    return get_single_step_result_from_response


def _outcome(item: Any) -> Outcome:
    failed = getattr(item, "error", None) or getattr(item, "status", "") in ("failed", "incomplete")
    return Outcome.ERROR if failed else Outcome.OK
