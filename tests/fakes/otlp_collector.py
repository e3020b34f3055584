"""A collector that takes OTLP over HTTP and remembers what it was sent. It runs in the tests' own process.

`answers` are the statuses of its next answers, with `retry_after` where it is set; after them it is 200. It can be
stopped, and comes back at the same port.
"""

import gzip
import ssl
import threading
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric

UNPACKED = {"gzip": gzip.decompress, "deflate": zlib.decompress}
KINDS = {1: "internal", 2: "server", 3: "client"}


@dataclass(frozen=True)
class Span:
    """Times are nanoseconds; ids hexadecimal, `parent` "" for none. `status` is "error" or ""."""

    name: str
    kind: str
    trace_id: str
    id: str
    parent: str
    state: str
    began: int
    ended: int
    status: str
    message: str
    attributes: dict[str, Any]
    resource: dict[str, Any]


@dataclass(frozen=True)
class Export:
    """One request with metrics, by their names."""

    metrics: dict[str, Metric]
    resource: dict[str, Any]


class Collector:
    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.spans: list[Span] = []
        self.exports: list[Export] = []
        self.requests: list[dict[str, str]] = []  # their headers, with small names
        self.answers: list[int] = []
        self.retry_after = ""
        self._tls = tls
        self._port = 0
        self._server: ThreadingHTTPServer | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self._port}"

    def start(self) -> None:
        collector = self

        class Handler(BaseHTTPRequestHandler):  # a connection for each request: a stop ends them all
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                body = UNPACKED.get(self.headers.get("Content-Encoding", ""), bytes)(body)
                collector.requests.append({name.lower(): value for name, value in self.headers.items()})
                status = collector.answers.pop(0) if collector.answers else 200
                if status == 200:
                    collector.take(self.path, body)
                self.send_response(status)
                if status != 200 and collector.retry_after:
                    self.send_header("Retry-After", collector.retry_after)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Nothing is said."""

        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), Handler)
        self._server.daemon_threads = True
        if self._tls:
            self._server.socket = self._tls.wrap_socket(self._server.socket, server_side=True)
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def take(self, path: str, body: bytes) -> None:
        if path == "/v1/traces":
            self._take_spans(ExportTraceServiceRequest.FromString(body))
        else:
            assert path == "/v1/metrics"
            for of_resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                metrics = {one.name: one for of_scope in of_resource.scope_metrics for one in of_scope.metrics}
                self.exports.append(Export(metrics, values(of_resource.resource.attributes)))

    def _take_spans(self, request: Any) -> None:
        for of_resource in request.resource_spans:
            resource = values(of_resource.resource.attributes)
            for of_scope in of_resource.scope_spans:
                for one in of_scope.spans:
                    self.spans.append(
                        Span(
                            name=one.name,
                            kind=KINDS[one.kind],
                            trace_id=one.trace_id.hex(),
                            id=one.span_id.hex(),
                            parent=one.parent_span_id.hex(),
                            state=one.trace_state,
                            began=one.start_time_unix_nano,
                            ended=one.end_time_unix_nano,
                            status="error" if one.status.code == 2 else "",
                            message=one.status.message,
                            attributes=values(one.attributes),
                            resource=resource,
                        )
                    )


def values(attributes: Iterable[KeyValue]) -> dict[str, Any]:
    return {one.key: _value(one.value) for one in attributes}


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(one) for one in value.array_value.values]
    return getattr(value, str(kind))
