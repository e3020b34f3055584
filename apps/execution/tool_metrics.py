"""Tool calls as metrics: by tool, by whose it is and by what came of it; the quickest and the slowest beside."""

from collections.abc import Iterator
from math import inf
from typing import Final

from prometheus_client import Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric

from apps.observability.family import Rule
from apps.observability.labels import Series, Values
from apps.observability.metrics import REGISTRY, RULES, FromMemory

_CALLS = Counter(
    "gateway_tool_calls",
    "Calls of tools, by tool, by whose it is and by what came of it.",
    ["tool", "source", "outcome"],
    registry=REGISTRY,
)
_SECONDS = Histogram(
    "gateway_tool_call_duration_seconds",
    "How long tools took that were called.",
    ["tool", "source"],
    buckets=(0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
    registry=REGISTRY,
)
_SHORTEST, _LONGEST = "gateway_tool_call_min_seconds", "gateway_tool_call_max_seconds"
RULES.declare(Rule.MIN, _SHORTEST)
RULES.declare(Rule.MAX, _LONGEST)


class _Durations:
    """Of one tool of one source."""

    __slots__ = ("_observe", "labels", "longest", "shortest")

    def __init__(self, tool: str, source: str) -> None:
        self.labels = tool, source
        self.shortest, self.longest = inf, 0.0
        self._observe = _SECONDS.labels(tool, source).observe

    def add(self, seconds: float) -> None:
        self._observe(seconds)
        self.shortest, self.longest = min(self.shortest, seconds), max(self.longest, seconds)


_names: Final = Values()
_calls: Final = Series(_CALLS.labels, open=[0], most=2000)
_durations: Final = Series(_Durations, open=[0])


def counted(tool: str, source: str, outcome: str, seconds: float | None) -> None:
    """`seconds` is None of a call that was refused, or made where nobody here could watch."""
    name = _names.label(tool)
    _calls.of(name, source, outcome).inc()
    if seconds is not None:
        _durations.of(name, source).add(seconds)


class ToolCollector(FromMemory):
    """Since the worker began."""

    def collect(self) -> Iterator[Metric]:
        shortest = GaugeMetricFamily(_SHORTEST, "The quickest call of a tool.", labels=["tool", "source"])
        longest = GaugeMetricFamily(_LONGEST, "The slowest call of a tool.", labels=["tool", "source"])
        for one in _durations.all():
            if one.shortest <= one.longest:
                shortest.add_metric(one.labels, one.shortest)
                longest.add_metric(one.labels, one.longest)
        yield shortest
        yield longest


REGISTRY.register(ToolCollector())
