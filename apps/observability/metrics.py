"""The one registry of metrics. Whoever measures something registers it here; Django's own are there as well."""

import prometheus_client
from prometheus_client import disable_created_metrics
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter
REGISTRY = prometheus_client.REGISTRY


class FromMemory(Collector):
    """A collector that reads the gateway's memory whenever it is asked, and must not be before there is anything."""

    def describe(self) -> list[Metric]:
        """None: the registry would collect them now to learn their names."""
        return []


def exposition() -> tuple[bytes, str]:
    """Everything in Prometheus's text format, and its content type."""
    return generate_latest(REGISTRY), CONTENT_TYPE_LATEST
