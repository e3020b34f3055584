"""What is exported, and under which names; a collector that is real is in tests/v1/test_telemetry.py."""

from time import monotonic

import pytest
import structlog
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.sdk.metrics.export import Gauge, Histogram, Sum
from opentelemetry.trace import NonRecordingSpan, SpanContext, use_span

from apps.execution.run_metrics import CONVENTIONS
from apps.observability import checks, telemetry_lost
from apps.observability.family import Family
from apps.observability.metrics import families
from apps.observability.otlp_metrics import converted
from apps.observability.otlp_spans import SpanExport
from apps.observability.telemetry import Telemetry, trouble, wanted
from tests.fakes.otlp_collector import Collector
from tests.harness import eventually

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
NOBODY = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENDPOINT, NOBODY)


@pytest.mark.parametrize(
    ("settings", "signals"),
    [
        ({}, ["TRACES", "METRICS"]),
        ({ENDPOINT: " "}, []),
        ({ENDPOINT: "", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": f"{NOBODY}/v1/metrics"}, ["METRICS"]),
        ({"OTEL_METRICS_EXPORTER": "none"}, ["TRACES"]),
        ({"OTEL_SDK_DISABLED": "TRUE"}, []),
    ],
)
def test_variables_of_opentelemetry_say_what_is_wanted(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], signals: list[str]
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)

    assert wanted() == signals


def test_protocol_that_is_not_to_be_had_is_a_failed_check(monkeypatch: pytest.MonkeyPatch) -> None:
    assert checks.export_can_be_made() == []
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")

    (found,) = checks.export_can_be_made()
    assert (found.id, "over grpc" in found.msg, "4318" in (found.hint or "")) == ("observability.W001", True, True)
    assert _told() == ("telemetry_unavailable", found.msg)


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("OTEL_METRIC_EXPORT_INTERVAL", "often", "'often'"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization: Bearer hunter2", "OTEL_EXPORTER_OTLP_HEADERS"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "zip", "OTEL_EXPORTER_OTLP_COMPRESSION"),
        ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "long", "'long'"),
        ("OTEL_BSP_SCHEDULE_DELAY", "0", "OTEL_BSP_SCHEDULE_DELAY"),
    ],
)
def test_variable_with_nonsense_keeps_nothing_from_serving_and_stands_in_no_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, variable: str, value: str, told: str
) -> None:
    monkeypatch.setenv(variable, value)

    assert trouble() is None
    event, error = _told()
    assert (event, told in error, "hunter2" in error + caplog.text) == ("telemetry_unavailable", True, False)


def _told() -> tuple[str, str]:
    """What is logged at a start that comes to nothing."""
    telemetry = Telemetry()
    with structlog.testing.capture_logs() as lines:
        telemetry.start({})
    assert telemetry.spans is None
    (line,) = lines
    return line["event"], line["error"]


def test_spans_that_find_no_room_are_dropped_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("MAX_QUEUE_SIZE", "4"), ("MAX_EXPORT_BATCH_SIZE", "4"), ("SCHEDULE_DELAY", "60000")):
        monkeypatch.setenv(f"OTEL_BSP_{name}", value)
    monkeypatch.setenv(ENDPOINT, "http://me:hunter2@127.0.0.1:9")
    dropped, failed = telemetry_lost._DROPPED._value.get, telemetry_lost._FAILED._value.get
    before = dropped(), failed()
    spans = SpanExport({})
    for name in ("first", "second"):
        spans.add([Span(name=name)] * 5)

    assert dropped() - before[0] == 6
    began = monotonic()
    with structlog.testing.capture_logs() as lines:
        spans.stop(1.0)
    assert monotonic() - began < 8
    assert failed() - before[1] == 4
    assert [(line["event"], line["endpoint"]) for line in lines] == [("telemetry_not_sent", NOBODY)]
    assert "hunter2" not in str(lines)


def test_batch_that_is_full_is_sent_at_once_and_what_is_left_at_the_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    with Collector() as collector:
        for name, value in (("MAX_EXPORT_BATCH_SIZE", "2"), ("SCHEDULE_DELAY", "60000")):
            monkeypatch.setenv(f"OTEL_BSP_{name}", value)
        monkeypatch.setenv(ENDPOINT, collector.url)
        spans = SpanExport({"service.name": "told"})
        for number in range(5):
            spans.add([Span(name=str(number), kind=Span.SPAN_KIND_SERVER)])

        eventually(lambda: len(collector.spans), 4)
        spans.stop(3.0)
        assert [one.name for one in collector.spans] == ["0", "1", "2", "3", "4"]
        assert len(collector.requests) == 3
        assert {one.resource["service.name"] for one in collector.spans} == {"told"}


@pytest.mark.parametrize(("sampler", "sampled"), [("always_on", True), ("always_off", False), ("traceidratio", False)])
def test_sampler_is_the_environments(monkeypatch: pytest.MonkeyPatch, sampler: str, sampled: bool) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", sampler)
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.1")
    spans = SpanExport({})

    assert spans.samples("f" * 32, None) is sampled
    spans.stop(1.0)


def test_span_of_a_module_does_not_decide_what_is_sampled() -> None:
    spans = SpanExport({})
    unsampled = NonRecordingSpan(SpanContext(1, 1, is_remote=False))

    with use_span(unsampled):
        assert spans.samples("f" * 32, None)
    spans.stop(1.0)


def test_names_are_those_that_prometheus_would_make_the_registrys_of() -> None:
    found = {family.name: family for family in families() if family.samples}
    suffixes = {"s": "_seconds", "By": "_bytes", "": ""}
    metrics = list(converted(found.values(), CONVENTIONS, 1, 2))

    assert [one.name.replace(".", "_") + suffixes[one.unit or ""] for one in metrics] == list(found)
    kinds: dict[str, type] = {"counter": Sum, "histogram": Histogram}
    assert [type(one.data) for one in metrics] == [kinds.get(one.kind, Gauge) for one in found.values()]


def test_histogram_counts_each_bucket_for_itself_and_empty_labels_are_none() -> None:
    labels = (("agent", "a"), ("error_type", ""))
    counts = {"0.5": 2.0, "1.0": 2.0, "+Inf": 5.0}
    family = Family(
        "gen_ai_server_request_duration_seconds",
        "histogram",
        "How long.",
        [
            *(("x_bucket", (*labels, ("le", bound)), count) for bound, count in counts.items()),
            ("gen_ai_server_request_duration_seconds_count", labels, 5.0),
            ("gen_ai_server_request_duration_seconds_sum", labels, 12.5),
        ],
    )

    (metric,) = converted([family], CONVENTIONS, 1, 2)
    (point,) = metric.data.data_points
    assert (metric.name, metric.unit) == ("gen_ai.server.request.duration", "s")
    assert (point.explicit_bounds, point.bucket_counts, point.count, point.sum) == ([0.5, 1.0], [2, 0, 3], 5, 12.5)
    assert (point.attributes, point.start_time_unix_nano, point.time_unix_nano) == ({"agent": "a"}, 1, 2)
