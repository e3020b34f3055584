"""What is exported by OTLP: traces of runs and the gateway's metrics, where OpenTelemetry's own variables say where to.

Nothing of it, and no package of the extra, is loaded without them. See docs/telemetry.md.
"""

import importlib.util
import logging
import os
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import structlog

from apps.core.version import VERSION
from apps.observability.metrics import sharing

if TYPE_CHECKING:
    from apps.observability.otlp_metrics import MetricExport
    from apps.observability.otlp_spans import SpanExport

TRACES: Final = "TRACES"
METRICS: Final = "METRICS"
_PACKAGES: Final = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.common", "requests")
_PATIENCE: Final = 3.0  # seconds that a stop waits for what is sent last

log = structlog.get_logger(__name__)


def wanted() -> list[str]:
    """The signals that the environment asks for: TRACES, METRICS, both or none."""
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return []
    return [one for one in (TRACES, METRICS) if setting(one, "ENDPOINT") and variable(f"{one}_EXPORTER") != "none"]


def setting(signal: str, name: str) -> str:
    """What is set, for this signal or for all; empty where nothing is."""
    return variable(f"EXPORTER_OTLP_{signal}_{name}") or variable(f"EXPORTER_OTLP_{name}")


def variable(name: str) -> str:
    return os.environ.get(f"OTEL_{name}", "").strip()


def trouble() -> tuple[str, str] | None:
    """What keeps the wanted export from being made, and its remedy."""
    signals = wanted()
    if signals and not all(map(_is_installed, _PACKAGES)):
        return (
            "Export by OTLP is asked for (OTEL_EXPORTER_OTLP_ENDPOINT), and its packages are not installed.",
            "Run `make otel`, or install agent-gateway[otel], and start the gateway again.",
        )
    for signal in signals:
        protocol = setting(signal, "PROTOCOL")
        if protocol not in ("", "http/protobuf"):
            return (
                f"Export by OTLP is asked for over {protocol}, which is not to be had here.",
                "Set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf, and the endpoint to the collector's port for it, 4318.",
            )
    return None


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:  # of a parent
        return False


class Telemetry:
    """Of this process. `spans` is None where traces are not exported."""

    def __init__(self) -> None:
        self.spans: SpanExport | None = None
        self._metrics: MetricExport | None = None

    def start(self, conventions: Mapping[str, str]) -> None:
        """Begin to export what is wanted. `conventions` are OpenTelemetry's names of metrics, by Prometheus's.

        What keeps it from being exported is logged: the gateway serves all the same.
        """
        signals = wanted()
        found = trouble()
        if not found and signals:
            try:
                with _headers_that_count():
                    self._start(signals, conventions)
            except ValueError as error:
                self.stop()
                found = f"Export by OTLP cannot begin: {error}", "Look at the OTEL_ variables of the environment."
        if found:
            log.error("telemetry_unavailable", error=found[0], remedy=found[1])
        elif signals:
            log.info("telemetry_started", signals=[one.lower() for one in signals])

    def _start(self, signals: list[str], conventions: Mapping[str, str]) -> None:
        """Raises ValueError where a variable holds what it cannot."""
        from apps.observability.otlp_metrics import MetricExport
        from apps.observability.otlp_spans import SpanExport

        about = _resource()
        if TRACES in signals:
            self.spans = SpanExport({**about, "process.pid": os.getpid()})
        if METRICS in signals:
            self._metrics = MetricExport(about, conventions)
            self._metrics.start()

    def stop(self) -> None:
        """Sends what waits, for a few seconds at most."""
        stopping = [
            threading.Thread(target=one.stop, args=(_PATIENCE,), daemon=True)
            for one in (self.spans, self._metrics)
            if one is not None
        ]
        for thread in stopping:
            thread.start()
        for thread in stopping:
            thread.join(_PATIENCE + 0.5)
        self.spans = self._metrics = None


@contextmanager
def _headers_that_count() -> Iterator[None]:
    """Inside, a header that OpenTelemetry cannot read is a ValueError: it would log it, secret and all, and go on."""

    def refuse(_record: logging.LogRecord) -> bool:
        raise ValueError("OTEL_EXPORTER_OTLP_HEADERS has to be name=value, separated by commas, with URL encoding.")

    logger = logging.getLogger("opentelemetry.util.re")
    logger.addFilter(refuse)
    try:
        yield
    finally:
        logger.removeFilter(refuse)


def _resource() -> dict[str, Any]:
    """Who tells. All workers of a gateway are one instance, because their metrics are one sum."""
    from opentelemetry.sdk.resources import OTELResourceDetector

    own = {
        "service.name": "agent-gateway",
        "service.version": VERSION,
        "service.instance.id": sharing.origin.instance,
        "host.name": socket.gethostname(),
    }
    return own | dict(OTELResourceDetector().detect().attributes)


telemetry: Final = Telemetry()
