"""The SDK's trace of a run as steps of the gateway's: agents, handoffs, guardrails, and models that are not the
gateway's. Nothing of it leaves the process (catalog/tracing.py).

Tools are noted where their calls are recorded (tool_records.py), and the gateway's own model calls where they are made;
their spans are passed over, or not made at all (sdk_runner.py, gateway_model.py).
"""

import asyncio
import sys
from collections.abc import Mapping
from typing import Any, Final, cast

from agents.tracing import (
    AgentSpanData,
    GenerationSpanData,
    GuardrailSpanData,
    HandoffSpanData,
    ResponseSpanData,
    Span,
    Trace,
    TracingProcessor,
)

from apps.catalog import tracing
from apps.execution.models import StepKind
from apps.execution.steps import ERROR, OK, Step, current_steps
from apps.upstreams.calls import current_step, number

_KINDS: Final[Mapping[type, StepKind]] = {
    AgentSpanData: StepKind.AGENT,
    HandoffSpanData: StepKind.HANDOFF,
    GuardrailSpanData: StepKind.GUARDRAIL,
    GenerationSpanData: StepKind.MODEL,
    ResponseSpanData: StepKind.MODEL,
}

_TRIPPED: Final = "Guardrail tripwire triggered"
_LEFT_OUT: Final = "Error details are redacted."  # a reason, in the words of a RunConfig that traces no contents


class StepTracing(TracingProcessor):
    """Notes the spans of runs of the gateway. The SDK calls it in the context of whoever begins and ends a span."""

    def on_span_start(self, span: Span[Any]) -> None:
        log = current_steps.get()
        kind = _KINDS.get(type(span.span_data))
        if log is None or kind is None:
            return
        step = log.begin(kind, getattr(span.span_data, "name", "") or "")
        if step:
            log.spans = log.spans or {}
            log.spans[span.span_id] = (step, sys.exc_info()[1])
            current_step.set(step)

    def on_span_end(self, span: Span[Any]) -> None:
        log = current_steps.get()
        if log is None or not log.spans or span.span_id not in log.spans:
            return
        step, handled = log.spans.pop(span.span_id)
        raised = sys.exc_info()[1]
        _end(step, span, raised if raised is not handled else None)
        if current_step.get() is step:
            current_step.set(step.within)

    def on_trace_start(self, trace: Trace) -> None:
        """A trace is no step: the run is."""

    def on_trace_end(self, trace: Trace) -> None:
        """See on_trace_start."""

    def shutdown(self) -> None:
        """Nothing is held."""

    def force_flush(self) -> None:
        """Nothing is held."""


def _end(step: Step, span: Span[Any], raised: BaseException | None) -> None:
    data = span.span_data
    error = "" if _is_told_to_the_model(span) else _sentence(span.error, raised)
    if isinstance(raised, asyncio.CancelledError | GeneratorExit):
        outcome = "cancelled"
    elif isinstance(data, AgentSpanData) and error.startswith(_TRIPPED):
        outcome = "refused"
    elif isinstance(data, GuardrailSpanData):
        outcome = "tripped" if data.triggered else ERROR if raised else OK
    elif isinstance(data, HandoffSpanData):
        outcome = OK if data.to_agent else ERROR
    else:
        outcome = ERROR if error or raised else OK
    step.end(outcome, error or (str(raised) if raised and outcome == ERROR else ""))
    if isinstance(data, HandoffSpanData):
        step.name = data.to_agent or ""
        step.detail = {"from": data.from_agent or ""}
    elif isinstance(data, GenerationSpanData | ResponseSpanData):
        _count(step, data)


def _is_told_to_the_model(span: Span[Any]) -> bool:
    """Of the SDK's errors the one that lets an agent go on; the call that it is about is a step of its own."""
    error = span.error
    return isinstance(span.span_data, AgentSpanData) and error is not None and error["message"] == "Tool not found"


def _count(step: Step, data: GenerationSpanData | ResponseSpanData) -> None:
    """A call of a model object that the module brought: it is in no CallLog."""
    usage = cast("Any", data.usage) or {}
    response = data.response if isinstance(data, ResponseSpanData) else None
    step.name = str((data.model if isinstance(data, GenerationSpanData) else response and response.model) or "")
    step.detail = {
        "by": "the module's own model",
        "prompt_tokens": number(usage, "input_tokens"),
        "completion_tokens": number(usage, "output_tokens"),
    }


def _sentence(error: Any, raised: BaseException | None) -> str:
    """Of a SpanError. What it tells beside its message may be anything; a reason is text under one of two names."""
    if not error:
        return ""
    told = error.get("data") or {}
    reason = told.get("error") or told.get("details") or ""
    if reason == _LEFT_OUT:
        reason = str(raised) if raised else ""
    return f"{error['message']}: {reason}" if isinstance(reason, str) and reason else str(error["message"])


def install() -> None:
    """Note the steps of this process's runs; once done, it stays done."""
    tracing.install().add(_PROCESSOR)


_PROCESSOR: Final = StepTracing()
