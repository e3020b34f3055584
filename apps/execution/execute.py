"""Run what a model name stands for and tell what happens, event by event."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

import structlog
from agents.exceptions import ModelBehaviorError
from django.conf import settings

from apps.catalog.run_options import namespace_default
from apps.core.errors import GatewayError
from apps.execution import agent_lines, callers, contents, mcp_servers
from apps.execution.agent_run import run_agent, run_built_agent
from apps.execution.declared_run import run_declared
from apps.execution.events import Finished, FinishReason, RefusalDelta, RunEvent, TextDelta
from apps.execution.failures import judge
from apps.execution.order import DeclaredOrder, ModuleOrder, Order, PassOrder
from apps.execution.pass_through import pass_through
from apps.execution.recorded_text import BEYOND
from apps.execution.recording_rules import characters_kept
from apps.execution.sdk_runner import own_provider
from apps.execution.steps import current_steps
from apps.execution.transcript import BETWEEN_MESSAGES
from apps.execution.usage import usage_of
from apps.execution.workflow_run import run_workflow
from apps.upstreams.calls import CallLog, current_calls
from apps.upstreams.routing import ModelRef, Preference, preference

log = structlog.get_logger(__name__)


def execute(order: Order) -> AsyncGenerator[RunEvent, None]:
    """The events of the run, ending with Finished. Closing it early cancels the run and its upstream connections.

    Raises GatewayError. The version that is loaded now serves to the end, whatever is edited meanwhile.
    """
    # For the rest of the request's task.
    current_calls.set(order.calls)
    current_steps.set(order.steps)
    if kept := characters_kept():
        order.steps.keeps, order.calls.keeps = kept, kept + BEYOND
    default = namespace_default(order.agent_id) if order.subject else ModelRef("", "")  # where no gateway is, none
    preference.set(Preference(instead=order.options.model, default=default))
    events = _events(order)
    return contents.told(events, order) if settings.GATEWAY_LOG_CONTENTS else events


def _events(order: Order) -> AsyncGenerator[RunEvent, None]:
    match order:
        case PassOrder():
            return pass_through(order)
        case DeclaredOrder():
            return run_declared(order)
        case ModuleOrder():
            return _judged(order, _module_events(order))
    raise TypeError(type(order).__name__)


def _module_events(order: ModuleOrder) -> AsyncGenerator[RunEvent, None]:
    export = order.generation.export
    if export.workflow:
        return run_workflow(order)
    if export.per_run or export.agent is None:
        return run_built_agent(order)
    return run_agent(order, export.agent)


async def _judged(order: ModuleOrder, events: AsyncGenerator[RunEvent, None]) -> AsyncGenerator[RunEvent, None]:
    """The same events, with failures judged and the end told."""
    own_provider.set(order.generation.model_provider)
    told_text = told_refusal = False
    package = order.generation.package
    caller = callers.working_for(order.subject, order.agent_id, package, order.run_id)
    with order.generation.hold(), caller, agent_lines.told(order) as ending:
        try:
            await mcp_servers.connect(order.generation)
            async with aclosing(events):
                async for event in events:
                    told_text = told_text or type(event) is TextDelta
                    told_refusal = told_refusal or type(event) is RefusalDelta
                    yield event
            reason, refused = _finish_reason(order.calls), False
        except GatewayError:
            raise
        except (Exception, SystemExit) as error:  # whatever a module's code raises; some call sys.exit
            verdict = judge(error, order.agent_id)
            cut = _finish_reason(order.calls)
            if isinstance(error, ModelBehaviorError) and cut != "stop":
                # Cut before there was any text, or in the middle of a structured answer: that is what the client hears.
                reason, refused = cut, cut == "content_filter"
            elif isinstance(verdict, GatewayError):
                log.warning("run_raised", agent=order.agent_id, code=verdict.code, exc_info=error)
                raise verdict from error
            else:
                if not told_refusal:
                    text = f"{BETWEEN_MESSAGES}{verdict.text}" if told_text else verdict.text
                    yield RefusalDelta(verdict.text) if verdict.by_model else TextDelta(text)
                reason, refused = "stop" if verdict.by_model else "content_filter", True
        ending.succeeded(refused=refused)
        yield Finished(reason, usage_of(order.calls), refused)


def _finish_reason(log: CallLog) -> FinishReason:
    """Of the last model call; the agent's own tool calls are not the client's business."""
    last = log.calls[-1].finish_reason if log.calls else None
    return last if last in ("length", "content_filter") else "stop"  # type: ignore[return-value]
