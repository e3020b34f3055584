"""Runs that have ended as spans: one for the run, and in it one for each step. See docs/telemetry.md.

Names and attributes are those of OpenTelemetry's conventions for generative AI (1.42, development) where they have one,
else they begin with `gateway.`.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import structlog
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode

from apps.core.ids import new_id
from apps.core.json import encode
from apps.core.redaction import redacted
from apps.execution.models import Outcome, Run, StepKind
from apps.execution.recorded_text import Keeper, text_of
from apps.execution.recording import fitting
from apps.execution.span_contents import messages_sent, said
from apps.execution.step_rows import Recorded, Told, told
from apps.observability.otlp_spans import SpanExport, within
from apps.upstreams.calls import ModelCall

log = structlog.get_logger(__name__)

Attributes = dict[str, Any]

_LONGEST_ERROR: Final = 1_000  # characters
# Of steps, what came to pass as it was meant to, or was not for the gateway to finish.
_NO_ERROR: Final = frozenset({"ok", "cached", "cancelled", "refused", "tripped", "waiting", "approved", "rejected"})
_MODEL_OPERATIONS: Final = frozenset({"chat", "text_completion", "embeddings"})


def export(spans: SpanExport, recorded: Sequence[Recorded]) -> None:
    """Raises nothing: a run that has been written is not to be written again."""
    most = max(one.steps.keeps for one in recorded)
    keeper = Keeper(most) if most else None
    for one in recorded:
        try:
            _export(spans, one, keeper)
        except Exception as error:  # whatever a module put into its steps
            log.error("spans_not_made", run_id=one.run.id, exc_info=error)


def _export(spans: SpanExport, recorded: Recorded, keeper: Keeper | None) -> None:
    run = recorded.run
    began = _nanoseconds(run.started_at)
    spans.ids.trace_id, spans.ids.span_id = run.trace_id, run.id[-16:]
    name = f"{recorded.operation} {run.agent_id}"
    parent = within(recorded.parent) if recorded.parent else Context()
    whole = spans.tracer.start_span(name, parent, SpanKind.SERVER, _of_run(run, recorded.operation), start_time=began)
    if whole.is_recording():
        _steps(spans, recorded, keeper, whole, began)
        if run.outcome == Outcome.FAILED:
            whole.set_status(Status(StatusCode.ERROR, fitting(redacted(run.error[:_LONGEST_ERROR]), None)))
    whole.end(began + _of_milliseconds(run.duration_ms))


def _steps(spans: SpanExport, recorded: Recorded, keeper: Keeper | None, whole: Span, began: int) -> None:
    made: dict[int | None, Span] = {None: whole}
    for one in told(recorded):
        starts = began + _of_milliseconds(one.began)
        spans.ids.span_id = (one.step.span_id if isinstance(one.step, ModelCall) else "") or new_id("")[:16]
        name, kind, attributes = _of_step(one, recorded.operation)
        attributes |= {"gateway.run.id": recorded.run.id, "gateway.step.outcome": one.outcome}
        if keeper and recorded.steps.keeps:
            attributes |= _contents(one, keeper)
        span = spans.tracer.start_span(
            name, trace.set_span_in_context(made.get(one.within, whole), Context()), kind, attributes,
            start_time=starts,
        )  # fmt: skip
        if one.outcome not in _NO_ERROR:
            span.set_attribute("error.type", one.outcome)
            span.set_status(Status(StatusCode.ERROR, one.error))
        span.end(starts + _of_milliseconds(one.took))
        made[one.number] = span


def _of_run(run: Run, operation: str) -> Attributes:
    return _known(
        {
            "gen_ai.operation.name": operation,
            "gen_ai.provider.name": run.upstream,
            "gen_ai.request.model": run.model,
            "gen_ai.request.stream": run.streamed,
            "gen_ai.agent.id": run.agent_id,
            "gen_ai.agent.version": run.agent_digest[:12],
            "gen_ai.workflow.name": run.agent_id if operation == "invoke_workflow" else "",
            "gen_ai.response.id": run.id,
            "gen_ai.response.finish_reasons": [run.finish_reason] if run.finish_reason else None,
            "gen_ai.response.time_to_first_chunk": _seconds(run.first_event_ms) if run.streamed else None,
            "gen_ai.usage.input_tokens": run.prompt_tokens,
            "gen_ai.usage.output_tokens": run.completion_tokens,
            "error.type": (run.error_code or "_OTHER") if run.outcome == Outcome.FAILED else "",
            "gateway.run.id": run.id,
            "gateway.run.outcome": str(run.outcome),
            "gateway.run.cost_usd": run.cost_usd,
            "gateway.request.id": run.request_id,
            "gateway.key.id": run.key_id,
        }
    )


def _of_step(one: Told, operation: str) -> tuple[str, SpanKind, Attributes]:
    match one.kind:
        case StepKind.MODEL:
            of_call = operation if operation in _MODEL_OPERATIONS else "chat"
            return f"{of_call} {one.name}".rstrip(), SpanKind.CLIENT, _of_model_call(one, of_call)
        case StepKind.TOOL:
            return f"execute_tool {one.name}", SpanKind.INTERNAL, _of_tool_call(one)
        case StepKind.AGENT:
            about = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": one.name}
            return f"invoke_agent {one.name}", SpanKind.INTERNAL, about
        case StepKind.HANDOFF:
            handed: Attributes = {
                "gen_ai.operation.name": "handoff",
                "gen_ai.agent.name": one.name,
                "gateway.handoff.from": one.detail.get("from"),
            }
            return f"handoff {one.name}", SpanKind.INTERNAL, _known(handed)
    return f"{one.kind.value} {one.name}", SpanKind.INTERNAL, {"gen_ai.operation.name": one.kind.value}


def _of_model_call(one: Told, operation: str) -> Attributes:
    detail: Mapping[str, Any] = one.detail
    return _known(
        {
            "gen_ai.operation.name": operation,
            "gen_ai.provider.name": detail.get("upstream"),
            "gen_ai.request.model": one.name,
            "gen_ai.response.finish_reasons": [detail["finish_reason"]] if "finish_reason" in detail else None,
            "gen_ai.response.time_to_first_chunk": _seconds(detail.get("first_event_ms")),
            "gen_ai.usage.input_tokens": detail.get("prompt_tokens"),
            "gen_ai.usage.output_tokens": detail.get("completion_tokens"),
            "gen_ai.usage.cache_read.input_tokens": detail.get("cached_tokens"),
            "gen_ai.usage.reasoning.output_tokens": detail.get("reasoning_tokens"),
            "gateway.model_call.attempts": detail.get("attempts", 1),
            "gateway.model_call.estimated": detail.get("estimated"),
            "gateway.model_call.by": detail.get("by"),
        }
    )


def _of_tool_call(one: Told) -> Attributes:
    return _known(
        {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": one.name,
            "gen_ai.tool.type": "extension" if "by" in one.detail else "function",
            "gateway.tool.source": one.detail.get("source"),
            "gateway.tool.module": one.detail.get("module"),
        }
    )


def _contents(one: Told, keeper: Keeper) -> Attributes:
    """What the run recorded, as its page shows it: redacted, and cut."""
    if isinstance(one.step, ModelCall):
        if one.step.heard is None:
            return {}
        return _known(
            {
                "gen_ai.input.messages": encode(list(messages_sent(one.step.heard.sent, keeper))).decode(),
                "gen_ai.output.messages": encode(list(said(one.step, keeper))).decode(),
            }
        )
    if one.kind is not StepKind.TOOL:
        return {}
    return _known(
        {
            "gen_ai.tool.call.arguments": keeper.both_ends(text_of(one.step.input)),
            "gen_ai.tool.call.result": keeper.beginning(text_of(one.step.output)),
        }
    )


def _known(attributes: Attributes) -> Attributes:
    """Without what says nothing; text as OTLP can carry it."""
    return {
        name: fitting(value, None) if isinstance(value, str) else value
        for name, value in attributes.items()
        if value is not None and value != ""
    }


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000


def _nanoseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1e6) * 1000


def _of_milliseconds(milliseconds: float) -> int:
    return int(milliseconds * 1e6)
