"""The one registry of metrics. Whoever measures something registers it here; Django's own are there as well.

Prometheus's text and the JSON of the operators' API are both written from `families()`, so they cannot differ.
"""

import prometheus_client
from prometheus_client import disable_created_metrics
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from apps.observability.family import Family, Rule, Rules, added_up
from apps.observability.sharing import Sharing

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter
REGISTRY = prometheus_client.REGISTRY

RULES = Rules()
RULES.declare(Rule.MAX, "process_max_fds", "python_info")
RULES.declare(Rule.MIN, "process_start_time_seconds")


class FromMemory(Collector):
    """A collector that reads the gateway's memory whenever it is asked, and must not be before there is anything."""

    def describe(self) -> list[Metric]:
        """None: the registry would collect them now to learn their names."""
        return []


def _of_this_process() -> list[Family]:
    return [Family.of(metric) for metric in REGISTRY.collect()]


sharing = Sharing(_of_this_process)


def families() -> list[Family]:
    """Everything that is measured, over all workers, in order of the names."""
    return added_up(sharing.everyones(), RULES)


def exposition() -> tuple[bytes, str]:
    """The same in Prometheus's text format, and its content type."""
    return generate_latest(_Found(families())), CONTENT_TYPE_LATEST


class _Found(FromMemory):
    def __init__(self, families: list[Family]) -> None:
        self._families = families

    def collect(self) -> list[Metric]:
        return [family.metric() for family in self._families]
