"""Spans to a collector: sent in batches by a thread of OpenTelemetry's SDK, and bounded in number."""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http import trace_exporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, Tracer, TraceState

from apps.core.version import VERSION
from apps.observability import telemetry_lost
from apps.observability.otlp_watch import Watch, send_in_time
from apps.observability.telemetry import TRACES, endpoint

if TYPE_CHECKING:
    from apps.observability.trace_context import Parent

# As many runs as are written at once may have a dozen spans each; OpenTelemetry's own 2,048 are fewer.
_MOST_WAITING: Final = 8_192


class GivenIds(IdGenerator):
    """The ids that a span is to have, set before it is made: they are the run's, or were told to an upstream."""

    trace_id = ""
    span_id = ""

    def generate_trace_id(self) -> int:
        return int(self.trace_id, 16)

    def generate_span_id(self) -> int:
        return int(self.span_id, 16)


class _Counted(SpanExporter):
    """The exporter, and how many spans it is done with, sent or lost."""

    def __init__(self) -> None:
        self.done = 0
        self._exporter = trace_exporter.OTLPSpanExporter()
        self._watch = Watch("traces", endpoint(TRACES), trace_exporter.__name__)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        try:
            result = self._exporter.export(spans)
        finally:
            self.done += len(spans)
        if result is SpanExportResult.SUCCESS:
            self._watch.sent()
        else:
            telemetry_lost.not_taken(len(spans))
            self._watch.failed(len(spans))
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()  # type: ignore[no-untyped-call]

    def close(self) -> None:
        self._watch.close()


class _Bounded(SpanProcessor):
    """Hands spans on while there is room. The SDK's own queue would throw the oldest away, and not say how many."""

    def __init__(self, exporter: _Counted, most: int) -> None:
        self._exporter = exporter
        self._most = most
        self._taken = 0
        self._batches = BatchSpanProcessor(exporter, max_queue_size=most)

    def on_end(self, span: ReadableSpan) -> None:
        if not (span.context and span.context.trace_flags.sampled):
            return
        if self._taken - self._exporter.done >= self._most:
            telemetry_lost.dropped(1)
            return
        self._taken += 1
        self._batches.on_end(span)

    def shutdown(self) -> None:
        self._batches.shutdown()  # type: ignore[no-untyped-call]


class SpanExport:
    """Of this process. Spans are made by one thread: `ids` says which ids the next one has.

    What is sampled is OTEL_TRACES_SAMPLER's to say, and the client's where it sent a trace.
    """

    def __init__(self, about: Mapping[str, Any]) -> None:
        self.ids = GivenIds()
        self._exporter = _Counted()
        most = int(os.environ.get("OTEL_BSP_MAX_QUEUE_SIZE") or _MOST_WAITING)
        self._processor = _Bounded(self._exporter, most)
        self._provider = TracerProvider(
            resource=Resource.create(dict(about)), id_generator=self.ids, shutdown_on_exit=False
        )
        self._provider.add_span_processor(self._processor)
        self.tracer: Tracer = self._provider.get_tracer("agent-gateway", VERSION)

    def samples(self, trace_id: str, parent: "Parent | None") -> bool:
        """Whether the spans of this trace are sent."""
        context = within(parent) if parent else None
        decided = self._provider.sampler.should_sample(context, int(trace_id, 16), "", trace.SpanKind.SERVER)
        return decided.decision is Decision.RECORD_AND_SAMPLE

    def stop(self, patience: float) -> None:
        """Sends what waits for so many seconds; what is left then is lost, and counted."""
        send_in_time(self._processor.shutdown, self._exporter.shutdown, patience)
        self._exporter.close()


def within(parent: "Parent") -> Context:
    """The context of what happens inside a client's span."""
    state = TraceState()
    with suppress(ValueError):
        state = TraceState.from_header([parent.state]) if parent.state else state
    flags = TraceFlags(TraceFlags.SAMPLED if parent.is_sampled else TraceFlags.DEFAULT)
    span = SpanContext(
        int(parent.trace_id, 16), int(parent.span_id, 16), is_remote=True, trace_flags=flags, trace_state=state
    )
    return trace.set_span_in_context(NonRecordingSpan(span))
