"""Runs that have ended as spans: one for the run, and in it one for each step. See docs/telemetry.md.

Names and attributes are those of OpenTelemetry's conventions for generative AI (1.42, development) where they have one,
else they begin with `gateway.`.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import structlog
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, SpanFlags, Status

from apps.core.ids import new_id
from apps.core.json import encode
from apps.core.redaction import redacted
from apps.execution.models import Outcome, Run, StepKind
from apps.execution.recorded_text import Keeper, text_of
from apps.execution.recording import fitting
from apps.execution.span_contents import messages_sent, said
from apps.execution.step_rows import Recorded, Told, told
from apps.observability.otlp_spans import SpanExport, state_of
from apps.upstreams.calls import ModelCall

log = structlog.get_logger(__name__)

Attributes = dict[str, Any]

_LONGEST_ERROR: Final = 1_000  # characters
# Of steps, what came to pass as it was meant to, or was not for the gateway to finish.
_NO_ERROR: Final = frozenset({"ok", "cached", "cancelled", "refused", "tripped", "waiting", "approved", "rejected"})
_MODEL_OPERATIONS: Final = frozenset({"chat", "text_completion", "embeddings"})
_PARENT_IS_HERE: Final = SpanFlags.SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK
_PARENT_IS_ELSEWHERE: Final = _PARENT_IS_HERE | SpanFlags.SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK


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
    if spans.samples(recorded.run.trace_id, recorded.parent):
        spans.add(list(_spans(recorded, keeper if recorded.steps.keeps else None, spans.longest)))


def _spans(recorded: Recorded, keeper: Keeper | None, longest: int | None) -> Iterator[Span]:
    """The run's own comes last."""
    run, parent = recorded.run, recorded.parent
    trace_id = bytes.fromhex(run.trace_id)
    state = state_of(parent) if parent else ""
    whole_id = bytes.fromhex(run.id[-16:])
    began = _nanoseconds(run.started_at)
    ids: dict[int | None, bytes] = {}
    for one in told(recorded):
        ids[one.number] = _id_of(one)
        name, kind, attributes = _of_step(one, recorded.operation)
        starts = began + _of_milliseconds(one.began)
        step = Span(
            trace_id=trace_id,
            trace_state=state,
            span_id=ids[one.number],
            parent_span_id=ids.get(one.within, whole_id),
            flags=_PARENT_IS_HERE,
            name=name,
            kind=kind,
            start_time_unix_nano=starts,
            end_time_unix_nano=starts + _of_milliseconds(one.took),
        )
        attributes |= {"gateway.run.id": run.id, "gateway.step.outcome": one.outcome}
        if keeper:
            attributes |= _contents(one, keeper)
        if one.outcome not in _NO_ERROR:
            attributes["error.type"] = one.outcome
            step.status.code, step.status.message = Status.STATUS_CODE_ERROR, one.error
        _put(attributes, step, longest)
        yield step
    whole = Span(
        trace_id=trace_id,
        trace_state=state,
        span_id=whole_id,
        parent_span_id=bytes.fromhex(parent.span_id) if parent else b"",
        flags=_PARENT_IS_ELSEWHERE if parent else _PARENT_IS_HERE,
        name=f"{recorded.operation} {run.agent_id}",
        kind=Span.SPAN_KIND_SERVER,
        start_time_unix_nano=began,
        end_time_unix_nano=began + _of_milliseconds(run.duration_ms),
    )
    if run.outcome == Outcome.FAILED:
        whole.status.code = Status.STATUS_CODE_ERROR
        whole.status.message = fitting(redacted(run.error[:_LONGEST_ERROR]), None)
    _put(_of_run(run, recorded.operation), whole, longest)
    yield whole


def _id_of(one: Told) -> bytes:
    """That which its server was told, if it was."""
    told_id = one.step.span_id if isinstance(one.step, ModelCall) else ""
    return bytes.fromhex(told_id or new_id("")[:16])


def _of_run(run: Run, operation: str) -> Attributes:
    return {
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


def _of_step(one: Told, operation: str) -> tuple[str, "Span.SpanKind.ValueType", Attributes]:
    match one.kind:
        case StepKind.MODEL:
            of_call = operation if operation in _MODEL_OPERATIONS else "chat"
            return f"{of_call} {one.name}".rstrip(), Span.SPAN_KIND_CLIENT, _of_model_call(one, of_call)
        case StepKind.TOOL:
            return f"execute_tool {one.name}", Span.SPAN_KIND_INTERNAL, _of_tool_call(one)
        case StepKind.AGENT:
            about = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": one.name}
            return f"invoke_agent {one.name}", Span.SPAN_KIND_INTERNAL, about
        case StepKind.HANDOFF:
            handed: Attributes = {
                "gen_ai.operation.name": "handoff",
                "gen_ai.agent.name": one.name,
                "gateway.handoff.from": one.detail.get("from"),
            }
            return f"handoff {one.name}", Span.SPAN_KIND_INTERNAL, handed
    return f"{one.kind.value} {one.name}", Span.SPAN_KIND_INTERNAL, {"gen_ai.operation.name": one.kind.value}


def _of_model_call(one: Told, operation: str) -> Attributes:
    detail: Mapping[str, Any] = one.detail
    return {
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


def _of_tool_call(one: Told) -> Attributes:
    return {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": one.name,
        "gen_ai.tool.type": "extension" if "by" in one.detail else "function",
        "gateway.tool.source": one.detail.get("source"),
        "gateway.tool.module": one.detail.get("module"),
    }


def _contents(one: Told, keeper: Keeper) -> Attributes:
    """What the run recorded, as its page shows it: redacted, and cut."""
    if isinstance(one.step, ModelCall):
        if one.step.heard is None:
            return {}
        return {
            "gen_ai.input.messages": encode(list(messages_sent(one.step.heard.sent, keeper))).decode(),
            "gen_ai.output.messages": encode(list(said(one.step, keeper))).decode(),
        }
    if one.kind is not StepKind.TOOL:
        return {}
    return {
        "gen_ai.tool.call.arguments": keeper.both_ends(text_of(one.step.input)),
        "gen_ai.tool.call.result": keeper.beginning(text_of(one.step.output)),
    }


def _put(attributes: Attributes, span: Span, longest: int | None) -> None:
    """Without what says nothing; text as OTLP can carry it."""
    add = span.attributes.add
    for name, value in attributes.items():
        if value is None or value == "":
            continue
        pair = add()
        pair.key = name
        _set(pair.value, value, longest)


def _set(field: AnyValue, value: Any, longest: int | None) -> None:
    if isinstance(value, str):
        field.string_value = fitting(value, longest)
    elif isinstance(value, bool):
        field.bool_value = value
    elif isinstance(value, int):
        field.int_value = value
    elif isinstance(value, float):
        field.double_value = value
    else:  # reasons why models finished
        for one in value:
            _set(field.array_value.values.add(), one, longest)


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000


def _nanoseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1e6) * 1000


def _of_milliseconds(milliseconds: float) -> int:
    return int(milliseconds * 1e6)
