"""Spans that never reached a collector, counted."""

from prometheus_client import Counter

from apps.observability.metrics import REGISTRY

_LOST = Counter(
    "gateway_spans_lost",
    "Spans that no collector took: dropped when too many waited, or failed when it refused them or did not answer.",
    ["reason"],
    registry=REGISTRY,
)
_DROPPED, _FAILED = _LOST.labels("dropped"), _LOST.labels("failed")


def dropped(count: int) -> None:
    _DROPPED.inc(count)


def not_taken(count: int) -> None:
    _FAILED.inc(count)
