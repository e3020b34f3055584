"""The one registry of metrics. Whoever measures something registers it here."""

from prometheus_client import CollectorRegistry, disable_created_metrics
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter
REGISTRY = CollectorRegistry()


def exposition() -> tuple[bytes, str]:
    """Everything in Prometheus's text format, and its content type."""
    return generate_latest(REGISTRY), CONTENT_TYPE_LATEST
