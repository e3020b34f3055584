"""Spans to a collector: OTLP's own messages, bounded in number, sent in batches by a thread."""

import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import INVALID_SPAN_CONTEXT, NonRecordingSpan, SpanContext, TraceFlags, TraceState

from apps.core.version import VERSION
from apps.observability import telemetry_lost
from apps.observability.otlp_sender import Sender
from apps.observability.otlp_watch import send_in_time
from apps.observability.telemetry import TRACES, variable

if TYPE_CHECKING:
    from apps.observability.trace_context import Parent

# As many runs as are written at once may have a dozen spans each; OpenTelemetry's own 2,048 are fewer.
_MOST_WAITING: Final = 8_192
_BATCH: Final = 512
_EVERY: Final = 5_000  # milliseconds


class SpanExport:
    """Of this process. One thread adds spans. `longest` is how long a text in them may be; None for any length.

    What is sampled is OTEL_TRACES_SAMPLER's to say, and the client's where it sent a trace.
    """

    def __init__(self, about: Mapping[str, Any]) -> None:
        self.longest = SpanLimits().max_span_attribute_length
        self._sampler = TracerProvider(resource=Resource({}), shutdown_on_exit=False).sampler
        self._most = _number("BSP_MAX_QUEUE_SIZE", _MOST_WAITING)
        self._batch = min(_number("BSP_MAX_EXPORT_BATCH_SIZE", _BATCH), self._most)
        self._every = _number("BSP_SCHEDULE_DELAY", _EVERY) / 1000
        self._sender = Sender(TRACES)
        self._request = _without_spans(about)
        self._waiting: list[Span] = []  # those that are being sent too
        self._enough = threading.Event()
        self._is_stopping = False
        self._thread = threading.Thread(target=self._work, name="send-spans", daemon=True)
        self._thread.start()

    def samples(self, trace_id: str, parent: "Parent | None") -> bool:
        """Whether the spans of this trace are sent."""
        context = _within(parent) if parent else Context()
        decided = self._sampler.should_sample(context, int(trace_id, 16), "", trace.SpanKind.SERVER)
        return decided.decision is Decision.RECORD_AND_SAMPLE

    def add(self, spans: Sequence[Span]) -> None:
        """To be sent soon. What finds no room is dropped, and counted."""
        room = self._most - len(self._waiting)
        if len(spans) > room:
            telemetry_lost.dropped(len(spans) - room)
            spans = spans[:room]
        self._waiting.extend(spans)
        if len(self._waiting) >= self._batch:
            self._enough.set()

    def stop(self, patience: float) -> None:
        """Sends what waits for so many seconds; what is left then is lost, and counted."""
        send_in_time(self._finish, self._sender.abort, patience)

    def _finish(self) -> None:
        self._is_stopping = True
        self._enough.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._is_stopping:
            is_full = self._enough.wait(self._every)
            self._enough.clear()
            self._send_waiting(self._batch if is_full else 1)
        self._send_waiting(1)

    def _send_waiting(self, least: int) -> None:
        """As long as so many wait."""
        while len(self._waiting) >= least:
            self._send(self._waiting[: self._batch])

    def _send(self, spans: Sequence[Span]) -> None:
        request = ExportTraceServiceRequest()
        request.CopyFrom(self._request)
        request.resource_spans[0].scope_spans[0].spans.extend(spans)
        if not self._sender.send(request.SerializeToString(), len(spans)):
            telemetry_lost.not_taken(len(spans))
        del self._waiting[: len(spans)]


def state_of(parent: "Parent") -> str:
    """The `tracestate` of the client, as far as it is one."""
    with suppress(ValueError):
        return TraceState.from_header([parent.state]).to_header() if parent.state else ""
    return ""


def _without_spans(about: Mapping[str, Any]) -> ExportTraceServiceRequest:
    """What each request says of this process."""
    scope = InstrumentationScope("agent-gateway", VERSION)
    span = ReadableSpan("", INVALID_SPAN_CONTEXT, resource=Resource.create(dict(about)), instrumentation_scope=scope)
    request = encode_spans([span])
    del request.resource_spans[0].scope_spans[0].spans[:]
    return request


def _within(parent: "Parent") -> Context:
    """The context of what happens inside a client's span."""
    flags = TraceFlags(TraceFlags.SAMPLED if parent.is_sampled else TraceFlags.DEFAULT)
    span = SpanContext(int(parent.trace_id, 16), int(parent.span_id, 16), is_remote=True, trace_flags=flags)
    return trace.set_span_in_context(NonRecordingSpan(span), Context())


def _number(name: str, default: int) -> int:
    """Raises ValueError."""
    number = int(variable(name) or default)
    if number < 1:
        raise ValueError(f"OTEL_{name} has to be 1 or more.")
    return number
