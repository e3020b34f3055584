"""Every tool call and handoff of every run asks the policy first, however deep and whoever's Model object answers.

The SDK has no public place that all of them pass (docs/decisions/0012-tools-are-governed-inside-the-sdk.md), so a few
of its internal functions are replaced by ones that ask and go on. tests/execution/test_governed_tools.py fails when an
upgrade moves one; a process that does not find one does not start.
"""

import inspect
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from agents import Agent, FunctionTool, Handoff, Tool, ToolErrorFormatterArgs
from agents.items import ToolCallOutputItem
from agents.run_internal.items import apply_patch_rejection_item, function_rejection_item, shell_rejection_item
from agents.run_internal.run_steps import NextStepHandoff
from agents.tool import FunctionToolResult, get_function_tool_origin
from django.core.exceptions import ImproperlyConfigured

from apps.access.decide import Decision
from apps.core.errors import AccessDenied
from apps.execution import callers, observed_tools, steps, tool_access, tool_calls
from apps.execution.models import StepKind
from apps.execution.observed_tools import call_of, module_of, name_of
from apps.execution.tool_records import Outcome
from apps.tools import lent

Asynchronous = Callable[..., Any]


def install() -> None:
    """Govern the tools of this process, and record their calls; once done, it stays done.

    Raises ImproperlyConfigured, and changes nothing, when the SDK is another one than this is made for.
    """
    found = [(seam, *seam.find()) for seam in SEAMS]
    for seam, owner, original in found:
        if not _is_ours(original):
            setattr(owner, seam.name, seam.governed(original))
    lent.install(tool_calls.call_allowed)


def tell_of_refused(args: ToolErrorFormatterArgs[Any]) -> str | None:
    """For RunConfig.tool_error_formatter: a model that calls what it was not offered hears why not. What a tool raised
    it does not hear, by the SDK's default; the step of the call keeps it for operators."""
    if args.kind == "tool_exception" and args.error is not None:
        observed_tools.raised(args.error)
    if args.kind != "tool_not_found":
        return None
    caller = callers.current()
    refused = caller.refused.get(args.tool_name) if caller else None
    steps.note(StepKind.TOOL, args.tool_name, Outcome.DENIED if refused else Outcome.MISSING)
    return refused


# --- function tools: the module's own, MCP tools, agents as tools -----------------------------------------------------


def _tool_call(original: Asynchronous) -> Asynchronous:
    """Asks before the SDK looks whether a person has to approve, and before guardrails and hooks hear of the call."""

    async def run_single_tool(executor: Any, *, task_state: Any, func_tool: FunctionTool, tool_call: Any) -> Any:
        lent.keep_current(func_tool)
        if told := _refusal(func_tool) or tool_calls.unavailable(func_tool):
            return _rejected(executor, func_tool, tool_call, told)
        return await original(executor, task_state=task_state, func_tool=func_tool, tool_call=tool_call)

    return run_single_tool


def _refusal(tool: FunctionTool) -> str:
    decision = tool_access.ask_for_tool(name_of(tool), module_of(tool))
    inner = tool._agent_instance  # noqa: SLF001
    if decision.allowed and isinstance(inner, Agent):
        decision = tool_access.ask_to_hand_over(inner.name) or decision
    if decision.allowed:
        return ""
    call_of(tool).refused(Outcome.DENIED)
    return tool_access.sentence(tool.name, decision)


def _rejected(executor: Any, tool: FunctionTool, tool_call: Any, told: str) -> FunctionToolResult:
    """What the SDK makes of a call that a person rejected: an ordinary output, and the run goes on."""
    item = function_rejection_item(
        executor.public_agent,
        tool_call,
        rejection_message=told,
        output_json_schema=tool.output_json_schema,
        scope_id=executor.tool_state_scope_id,
        tool_origin=get_function_tool_origin(tool),
    )
    return FunctionToolResult(tool=tool, output=told, run_item=item)


# --- tools that the model's provider runs, and those that the SDK runs for its calls (shell, apply_patch, ...) --------


def _tools_of_turn(original: Asynchronous) -> Asynchronous:
    """A function tool is offered all the same: the model hears why it may not call it."""

    async def get_all_tools(agent: Agent[Any], context_wrapper: Any) -> list[Tool]:
        tools = await original(agent, context_wrapper)
        for tool in tools:
            lent.keep_current(tool)
        return [tool for tool in tools if isinstance(tool, FunctionTool) or _may_offer(tool)]

    return get_all_tools


def _may_offer(tool: Tool) -> bool:
    return tool_access.may_offer_tool(tool.name, module_of(tool))


Answer = Callable[[Any, Any, str], ToolCallOutputItem]  # of the agent and the call: what the model is told of it


def _answer_of_shell(agent: Any, call: Any, told: str) -> ToolCallOutputItem:
    return shell_rejection_item(agent, _id(call), tool_call=call, rejection_message=told)


def _answer_of_patch(agent: Any, call: Any, told: str) -> ToolCallOutputItem:
    return apply_patch_rejection_item(agent, _id(call), tool_call=call, rejection_message=told)


def _answer_of_custom(agent: Any, call: Any, told: str) -> ToolCallOutputItem:
    return apply_patch_rejection_item(
        agent, _id(call), tool_call=call, output_type="custom_tool_call_output", rejection_message=told
    )


def _answer_of_local_shell(agent: Any, call: Any, told: str) -> ToolCallOutputItem:
    item: Any = {"type": "local_shell_call_output", "call_id": _id(call), "output": told}
    return ToolCallOutputItem(agent=agent, output=told, raw_item=item)


def _id(call: Any) -> str:
    return str(call["call_id"] if isinstance(call, Mapping) else call.call_id)


@dataclass(frozen=True, slots=True)
class Native:
    """A kind of tool that the SDK runs: the class that does, what it calls the call, where that has its tool, and how
    the model is told of a refusal. A picture of the screen, which computers answer with, can say nothing of one."""

    action: str
    call: str
    tool: str
    answer: Answer | None


# By the member of the SDK's ToolExecutionPlan that has the calls.
NATIVE_CALLS: Final = {
    "computer_actions": Native("ComputerAction", "action", "computer_tool", None),
    "custom_tool_calls": Native("CustomToolAction", "call", "custom_tool", _answer_of_custom),
    "shell_calls": Native("ShellAction", "call", "shell_tool", _answer_of_shell),
    "apply_patch_calls": Native("ApplyPatchAction", "call", "apply_patch_tool", _answer_of_patch),
    "local_shell_calls": Native("LocalShellAction", "call", "local_shell_tool", _answer_of_local_shell),
}


def _native_call(native: Native) -> Callable[[Asynchronous], Asynchronous]:
    """It was offered, and may have been forbidden since: while the model answered, or a person thought it over."""

    def governed(original: Asynchronous) -> Asynchronous:
        observed = observed_tools.native_call(native.call, native.tool)(original)

        async def execute(**options: Any) -> Any:
            call = options[native.call]
            tool = getattr(call, native.tool)
            decision = tool_access.ask_for_tool(tool.name, module_of(tool))
            if decision.allowed:
                return await observed(**options)
            call_of(tool).refused(Outcome.DENIED)
            if native.answer is None:
                raise AccessDenied(decision.reason)
            return native.answer(options["agent"], call.tool_call, tool_access.sentence(tool.name, decision))

        return execute

    return governed


# --- handoffs --------------------------------------------------------------------------------------------------------


def _handoffs_of_turn(original: Asynchronous) -> Asynchronous:
    async def get_handoffs(agent: Agent[Any], context_wrapper: Any) -> list[Handoff[Any, Any]]:
        handoffs = await original(agent, context_wrapper)
        return [one for one in handoffs if tool_access.may_offer_handoff(one.tool_name, one.agent_name)]

    return get_handoffs


def _handing_over(original: Asynchronous) -> Asynchronous:
    """The last look before the other agent goes on; a handoff may bring another one than it announced."""

    async def execute_handoffs(*, run_handoffs: Any, **options: Any) -> Any:
        announced = run_handoffs[0].handoff.agent_name
        decision = tool_access.ask_to_hand_over(announced)
        if decision and not decision.allowed:
            steps.note(StepKind.HANDOFF, announced, Outcome.DENIED)
        _require(decision)
        step = await original(run_handoffs=run_handoffs, **options)
        if isinstance(step.next_step, NextStepHandoff) and step.next_step.new_agent.name != announced:
            _require(tool_access.ask_to_hand_over(step.next_step.new_agent.name))
        return step

    return execute_handoffs


def _require(decision: Decision | None) -> None:
    """The SDK has no way to tell the model here: the run ends."""
    if decision and not decision.allowed:
        raise AccessDenied(decision.reason)


# --- where they are put ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Seam:
    """An asynchronous function of the SDK's, the parameters that ours relies on, and what makes ours of it."""

    owner: str
    name: str
    takes: frozenset[str]
    governed: Callable[[Asynchronous], Asynchronous]

    def find(self) -> tuple[Any, Asynchronous]:
        """Its owner and the function as it is now. Raises ImproperlyConfigured."""
        try:
            owner = pkgutil.resolve_name(f"agents.run_internal.{self.owner}")
            function = getattr(owner, self.name)
            takes = inspect.signature(function).parameters.keys()
        except (ImportError, AttributeError, TypeError) as error:
            raise self._missing() from error
        fits = inspect.iscoroutinefunction(function) and self.takes <= takes
        if not fits and not _is_ours(function):
            raise self._missing()
        return owner, function

    def _missing(self) -> ImproperlyConfigured:
        return ImproperlyConfigured(
            f"The rules about tools cannot be held: openai-agents has no {self.owner}.{self.name} as this gateway knows"
            " it. Install the version that requirements.lock names."
        )


def _is_ours(function: Asynchronous) -> bool:
    return function.__module__ in (__name__, observed_tools.__name__)


SEAMS: Final = (
    Seam(
        "tool_execution:_FunctionToolBatchExecutor",
        "_run_single_tool",
        frozenset({"task_state", "func_tool", "tool_call"}),
        _tool_call,
    ),
    Seam(
        "tool_execution",
        "_invoke_function_tool_with_metadata",
        frozenset({"function_tool", "context", "arguments"}),
        observed_tools.function_call,
    ),
    Seam("run_loop", "get_all_tools", frozenset({"agent", "context_wrapper"}), _tools_of_turn),
    Seam("run_loop", "get_handoffs", frozenset({"agent", "context_wrapper"}), _handoffs_of_turn),
    Seam("turn_resolution", "get_handoffs", frozenset({"agent", "context_wrapper"}), _handoffs_of_turn),
    Seam("turn_resolution", "execute_handoffs", frozenset({"run_handoffs"}), _handing_over),
    Seam(
        "run_loop",
        "get_single_step_result_from_response",
        frozenset({"new_response"}),
        observed_tools.hosted_calls,
    ),
    *(
        Seam(f"tool_actions:{native.action}", "execute", frozenset({"agent", native.call}), _native_call(native))
        for native in NATIVE_CALLS.values()
    ),
)
