"""The one registry of metrics as OTLP has it, sent every so often: of several workers by one, which tells of all.

A name is the registry's with a dot for its first `_`, and without the unit at its end, which is a field of its own: who
makes Prometheus's names of it again has those of `/metrics/prometheus`. Where OpenTelemetry's conventions have one,
`conventions` says so.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import isinf
from time import time_ns
from typing import Any, Final

from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from apps.core.periodic import Periodic
from apps.core.version import VERSION
from apps.observability.family import Family, Labels
from apps.observability.metrics import families, sharing
from apps.observability.otlp_sender import Sender
from apps.observability.otlp_watch import send_in_time
from apps.observability.telemetry import METRICS, variable

_UNITS: Final = {"_seconds": "s", "_bytes": "By"}
_EVERY: Final = 60_000  # milliseconds, as OpenTelemetry has it
_CUMULATIVE: Final = AggregationTemporality.CUMULATIVE


class MetricExport:
    def __init__(self, about: Mapping[str, Any], conventions: Mapping[str, str]) -> None:
        self._resource = Resource.create(dict(about))
        self._conventions = conventions
        self._sender = Sender(METRICS)
        every = float(variable("METRIC_EXPORT_INTERVAL") or _EVERY) / 1000
        self._periodic = Periodic("send-metrics", self._send_in_turn, seconds=every)

    def start(self) -> None:
        self._periodic.start()

    def stop(self, patience: float) -> None:
        """Sends what was counted last. Every worker does: each knows more than the one before it."""
        send_in_time(self._send_last, self._sender.abort, patience)

    def _send_in_turn(self) -> None:
        if sharing.is_first():
            self._send()

    def _send_last(self) -> None:
        self._periodic.stop()
        self._send()

    def _send(self) -> None:
        metrics = list(converted(families(), self._conventions, sharing.origin.began_ns, time_ns()))
        scope = ScopeMetrics(InstrumentationScope("agent-gateway", VERSION), metrics, "")
        data = MetricsData([ResourceMetrics(self._resource, [scope], "")])
        self._sender.send(encode_metrics(data).SerializeToString(), len(metrics))


def converted(
    families: Iterable[Family], conventions: Mapping[str, str], began_ns: int, now_ns: int
) -> Iterator[Metric]:
    """Counters and histograms as sums since `began_ns`, all else as it is now. What has no samples is left out."""
    for family in families:
        if not family.samples:
            continue
        name, unit = _named(family.name, conventions)
        data: Sum | Histogram | Gauge
        if family.kind == "histogram":
            data = Histogram(list(_distributions(family, conventions, began_ns, now_ns)), _CUMULATIVE)
        elif family.kind == "counter":
            counted = [
                NumberDataPoint(_labels(of, conventions), began_ns, now_ns, value) for _, of, value in family.samples
            ]
            data = Sum(counted, _CUMULATIVE, is_monotonic=True)
        else:
            data = Gauge(
                [NumberDataPoint(_labels(of, conventions), 0, now_ns, value) for _, of, value in family.samples]
            )
        yield Metric(name, family.help, unit, data)


def _named(name: str, conventions: Mapping[str, str]) -> tuple[str, str]:
    """The name and the unit."""
    ending = next((one for one in _UNITS if name.endswith(one)), "")
    known = conventions.get(name)
    return known or name.removesuffix(ending).replace("_", ".", 1), _UNITS.get(ending, "")


def _labels(labels: Labels, conventions: Mapping[str, str]) -> dict[str, str]:
    """An empty one is none, as for Prometheus."""
    return {conventions.get(name, name): value for name, value in labels if value}


def _distributions(
    family: Family, conventions: Mapping[str, str], began_ns: int, now_ns: int
) -> Iterator[HistogramDataPoint]:
    """Prometheus counts what is at most so large, OTLP what is in each bucket."""
    totals: dict[Labels, dict[str, float]] = {}
    buckets: dict[Labels, list[tuple[float, float]]] = {}
    for name, labels, value in family.samples:
        rest = tuple(pair for pair in labels if pair[0] != "le")
        if name.endswith("_bucket"):
            buckets.setdefault(rest, []).append((float(dict(labels)["le"]), value))
        else:
            totals.setdefault(rest, {})[name.removeprefix(family.name)] = value
    for labels, found in buckets.items():
        bounds, counts = _each(sorted(found))
        yield HistogramDataPoint(
            attributes=_labels(labels, conventions),
            start_time_unix_nano=began_ns,
            time_unix_nano=now_ns,
            count=int(totals[labels]["_count"]),
            sum=totals[labels]["_sum"],
            bucket_counts=counts,
            explicit_bounds=bounds,
            min=None,  # type: ignore[arg-type]  # OTLP's is optional, and nobody knows it
            max=None,  # type: ignore[arg-type]
        )


def _each(at_most: Sequence[tuple[float, float]]) -> tuple[list[float], list[int]]:
    counts = [int(value) for _, value in at_most]
    between = [count - before for count, before in zip(counts, [0, *counts], strict=False)]
    return [bound for bound, _ in at_most if not isinf(bound)], between
