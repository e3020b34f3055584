"""Spans of runs that no server is easily brought to; the rest is in tests/v1/test_telemetry.py."""

from collections.abc import Iterator
from time import perf_counter
from typing import Any

import pytest
import structlog

from apps.core.ids import new_id
from apps.execution.run_spans import export
from apps.execution.step_rows import Recorded
from apps.execution.steps import StepLog
from apps.observability.otlp_spans import SpanExport
from apps.upstreams.calls import ModelCall
from tests.factories import RunFactory
from tests.fakes.otlp_collector import Collector


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with Collector() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        yield collector


def recorded(**fields: Any) -> Recorded:
    """A run of one model call."""
    run_id = new_id("chatcmpl-")
    began = perf_counter()
    call = ModelCall("llm", "small", began=began, ended=began, **fields)
    return Recorded(RunFactory.build(id=run_id, trace_id=run_id[-32:]), began, [call], StepLog(), "chat")


def test_text_is_sent_as_it_can_be(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "6")
    spans = SpanExport({})
    export(spans, [recorded(finish_reason="\ud800\0stopped")])
    spans.stop(3.0)

    call, whole = collector.spans
    assert call.attributes["gen_ai.response.finish_reasons"] == ["?stopp"]
    assert whole.attributes["gateway.run.id"] == "chatcm"


def test_run_of_which_no_spans_can_be_made_takes_no_other_along(collector: Collector) -> None:
    good, bad = recorded(), recorded(span_id="no digits")
    spans = SpanExport({})
    with structlog.testing.capture_logs() as lines:
        export(spans, [bad, good])
    spans.stop(3.0)

    assert [(line["event"], line["run_id"]) for line in lines] == [("spans_not_made", bad.run.id)]
    assert {one.trace_id for one in collector.spans} == {good.run.trace_id}
