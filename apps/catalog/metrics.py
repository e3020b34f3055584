"""The catalog as Prometheus metrics, read from memory when they are asked for."""

from collections import Counter
from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric

from apps.catalog import registry
from apps.catalog.models import State
from apps.observability.metrics import FromMemory

_STATES = [State.LIVE, State.STALE, State.BROKEN]


class CatalogCollector(FromMemory):
    """How many agents are in which state, and one series for each that does not serve its newest version."""

    def collect(self) -> Iterator[Metric]:
        entries = registry.entries().values()
        counts = Counter(entry.state for entry in entries)
        agents = GaugeMetricFamily("gateway_agents", "Agents of the discovery folders by state.", labels=["state"])
        for state in _STATES:
            agents.add_metric([state.value], counts[state])
        yield agents
        failing = GaugeMetricFamily(
            "gateway_agent_failing",
            "1 for an agent whose newest edit does not load: stale when the last good version serves, else broken.",
            labels=["agent", "state"],
        )
        for entry in entries:
            if entry.state in (State.STALE, State.BROKEN):
                failing.add_metric([entry.agent_id, entry.state.value], 1)
        yield failing
