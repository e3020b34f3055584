"""The catalog as metrics, read from memory when they are asked for. Every worker tells of the same folders."""

from collections import Counter
from collections.abc import Iterator
from itertools import islice

from prometheus_client.core import GaugeMetricFamily, Metric

from apps.catalog import registry
from apps.catalog.failure_kinds import KINDS
from apps.catalog.models import State
from apps.core import live_config
from apps.observability.family import Rule
from apps.observability.labels import told
from apps.observability.metrics import RULES, FromMemory

_STATES = [State.LIVE, State.STALE, State.BROKEN]
_MOST_NAMED = 500  # agents with a series of their own

RULES.declare(Rule.SAME, "gateway_agents", "gateway_agent_failing", "gateway_agent_problems")


class CatalogCollector(FromMemory):
    """How many agents are in which state, and one series for each that does not serve its newest version."""

    def collect(self) -> Iterator[Metric]:
        entries = list(registry.entries().values()) if live_config.is_loaded() else []
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
        failed = (entry for entry in entries if entry.state in (State.STALE, State.BROKEN))
        for entry in islice(failed, _MOST_NAMED):
            failing.add_metric([told(entry.agent_id), entry.state.value], 1)
        yield failing
        yield _problems()


def _problems() -> Metric:
    family = GaugeMetricFamily(
        "gateway_agent_problems",
        "Diagnostics that hold now, by kind: import, blocked, validation or tool_violation; and by severity.",
        labels=["kind", "severity"],
    )
    problems = registry.problems() if live_config.is_loaded() else ()
    counts = Counter((KINDS[one.code].value, one.severity) for _, one in problems)
    for (kind, severity), count in sorted(counts.items()):
        family.add_metric([kind, severity], count)
    return family
