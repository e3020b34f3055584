"""The upstreams as Prometheus metrics, read from memory when they are asked for: a call only counts in an integer.

Each process tells of its own calls; over several workers they are sums, and a state is in how many of them it is.
"""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from apps.observability.metrics import FromMemory
from apps.upstreams import capacity, health
from apps.upstreams.health import State
from apps.upstreams.routing import upstreams

_COUNTERS = {
    "retried": ("gateway_upstream_retries", "Further attempts at the same upstream."),
    "failed_over": ("gateway_upstream_failovers", "Calls that went on to another upstream after failing at this one."),
    "cooldowns": ("gateway_upstream_cooldowns", "Times that it was passed over for a while after failures."),
}


class UpstreamCollector(FromMemory):
    """Of the upstreams that are switched on; so the labels are bounded."""

    def collect(self) -> Iterator[Metric]:
        known = upstreams.loaded()
        slugs = list(known.targets) if known else []
        yield _states(slugs)
        yield _attempts(slugs)
        for name, (metric, says) in _COUNTERS.items():
            family = CounterMetricFamily(metric, says, labels=["upstream"])
            for slug in slugs:
                family.add_metric([slug], getattr(health.record(slug).counts, name))
            yield family
        yield _cooling(slugs)
        yield _calls(slugs)


def _states(slugs: list[str]) -> Metric:
    family = GaugeMetricFamily(
        "gateway_upstream_state",
        "For how many workers an upstream is in a state: healthy, degraded, down or unknown.",
        labels=["upstream", "state"],
    )
    for slug in slugs:
        current = health.standing(slug).state
        for state in State:
            family.add_metric([slug, state.value], state is current)
    return family


def _cooling(slugs: list[str]) -> Metric:
    family = GaugeMetricFamily(
        "gateway_upstream_cooling", "For how many workers an upstream is passed over now.", labels=["upstream"]
    )
    for slug in slugs:
        family.add_metric([slug], health.standing(slug).cooling_until is not None)
    return family


def _attempts(slugs: list[str]) -> Metric:
    family = CounterMetricFamily(
        "gateway_upstream_attempts",
        "Requests for a model's answer: answered when it began, failed when it did not, or broke off.",
        labels=["upstream", "outcome"],
    )
    for slug in slugs:
        counts = health.record(slug).counts
        family.add_metric([slug, "answered"], counts.answered)
        family.add_metric([slug, "failed"], counts.failed)
    return family


def _calls(slugs: list[str]) -> Metric:
    family = GaugeMetricFamily(
        "gateway_upstream_calls",
        "Calls of an upstream whose number is limited: running, and waiting for their turn.",
        labels=["upstream", "state"],
    )
    for slug in slugs:
        family.add_metric([slug, "running"], capacity.running_at(slug))
        family.add_metric([slug, "waiting"], capacity.waiting_at(slug))
    return family
