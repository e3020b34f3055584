"""How a worker itself fares: its event loop, what waits to be written, and how old its configuration is."""

import asyncio
from collections.abc import Iterator
from math import isfinite
from typing import Final

from prometheus_client import Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from apps.core import live_config
from apps.core.write_behind import writers
from apps.observability.family import Rule
from apps.observability.metrics import REGISTRY, RULES, FromMemory

RULES.declare(Rule.MAX, "gateway_event_loop_lag_max_seconds", "gateway_config_age_seconds")

_LAG = Histogram(
    "gateway_event_loop_lag_seconds",
    "How late a timer of the event loop was, twice a second: all requests of a worker wait as long.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
    registry=REGISTRY,
)
_LOOK_EVERY: Final = 0.5  # seconds
_REMEMBERED: Final = 120  # looks: the last minute


class LoopLag:
    """Of one event loop: one timer."""

    def __init__(self) -> None:
        self._handle: asyncio.TimerHandle | None = None
        self._latest: list[float] = []

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._arm()

    def stop(self) -> None:
        if self._handle:
            self._handle.cancel()
            self._handle = None
        self._latest = []

    @property
    def longest(self) -> float | None:
        """Seconds, in the last minute; None where no loop is watched."""
        return max(self._latest, default=None)

    def _arm(self) -> None:
        self._due = self._loop.time() + _LOOK_EVERY
        self._handle = self._loop.call_at(self._due, self._look)

    def _look(self) -> None:
        lag = max(0.0, self._loop.time() - self._due)
        _LAG.observe(lag)
        self._latest = [*self._latest[1 - _REMEMBERED :], lag]
        self._arm()


loop_lag: Final = LoopLag()


class WorkerCollector(FromMemory):
    """Read from memory when it is asked for."""

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("gateway_workers", "Worker processes that serve.", value=1)
        longest = GaugeMetricFamily(
            "gateway_event_loop_lag_max_seconds", "The longest lag of the last minute, of any worker.", labels=[]
        )
        if loop_lag.longest is not None:
            longest.add_metric([], loop_lag.longest)
        yield longest
        age = GaugeMetricFamily(
            "gateway_config_age_seconds",
            "Since the configuration was last compared with the database, by the worker that is furthest behind.",
            labels=[],
        )
        if isfinite(seconds := live_config.seconds_since_check()):
            age.add_metric([], seconds)
        yield age
        yield from _written_behind()


def _written_behind() -> Iterator[Metric]:
    backlog = GaugeMetricFamily(
        "gateway_write_behind_backlog", "Rows that wait to be written, by what writes them.", labels=["writer"]
    )
    lost = CounterMetricFamily(
        "gateway_write_behind_lost",
        "Rows that were never written: dropped when too many waited; lost when refused, or still waiting at the end.",
        labels=["writer", "reason"],
    )
    for writer in sorted(writers(), key=lambda one: one.name):
        backlog.add_metric([writer.name], writer.backlog)
        lost.add_metric([writer.name, "dropped"], writer.dropped)
        lost.add_metric([writer.name, "lost"], writer.lost)
    yield backlog
    yield lost


REGISTRY.register(WorkerCollector())
