"""What is sent to a collector arrives as OpenTelemetry's variables say, or it is said why not."""

import ssl
from collections.abc import Iterator
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
import structlog
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from apps.core import clock
from apps.observability.otlp_sender import Sender
from tests.fakes.otlp_collector import Collector

OTLP = "OTEL_EXPORTER_OTLP"
SPANS = [Span(name="x", kind=Span.SPAN_KIND_CLIENT)]
BODY = ExportTraceServiceRequest(
    resource_spans=[ResourceSpans(scope_spans=[ScopeSpans(spans=SPANS)])]
).SerializeToString()


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with Collector() as collector:
        monkeypatch.setenv(f"{OTLP}_ENDPOINT", f"{collector.url}/")
        yield collector


def sent(times: int = 1) -> tuple[list[bool], list[dict[str, Any]]]:
    """Whether it was taken each time, and what is logged."""
    sender = Sender("TRACES")
    with structlog.testing.capture_logs() as lines:
        taken = [sender.send(BODY, 1) for _ in range(times)]
    return taken, [dict(one) for one in lines]


@pytest.mark.parametrize("compression", ["", "none", "gzip", "deflate"])
def test_body_comes_with_the_headers_of_the_environment(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, compression: str
) -> None:
    monkeypatch.setenv(f"{OTLP}_COMPRESSION", compression)
    monkeypatch.setenv(f"{OTLP}_HEADERS", "authorization=Bearer%20secret,x-tenant=a")

    assert sent() == ([True], [])
    assert [one.name for one in collector.spans] == ["x"]
    (headers,) = collector.requests
    told = {name: headers.get(name) for name in ("authorization", "x-tenant", "content-type", "content-encoding")}
    assert told == {
        "authorization": "Bearer secret",
        "x-tenant": "a",
        "content-type": "application/x-protobuf",
        "content-encoding": compression if compression not in ("", "none") else None,
    }


def test_variable_for_traces_goes_before_the_one_for_all(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("ENDPOINT", "http://127.0.0.1:9"), ("HEADERS", "x-tenant=all"), ("COMPRESSION", "gzip")):
        monkeypatch.setenv(f"{OTLP}_{name}", value)
    for name, value in (("ENDPOINT", f"{collector.url}/v1/traces"), ("HEADERS", "x-tenant=a"), ("COMPRESSION", "none")):
        monkeypatch.setenv(f"{OTLP}_TRACES_{name}", value)

    assert sent()[0] == [True]
    assert [(one["x-tenant"], "content-encoding" in one) for one in collector.requests] == [("a", False)]


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_what_may_be_taken_later_is_sent_again(collector: Collector, status: int) -> None:
    collector.answers = [status]

    assert sent() == ([True], [])
    assert (len(collector.requests), len(collector.spans)) == (2, 1)


@pytest.mark.parametrize(("status", "reason"), [(400, "400 Bad Request"), (302, "302 Found"), (500, "500 Internal")])
def test_what_is_refused_is_lost_at_once_and_told_once(collector: Collector, status: int, reason: str) -> None:
    collector.answers = [status] * 2

    taken, lines = sent(3)
    assert (taken, len(collector.requests)) == ([False, False, True], 3)
    assert [(one["event"], one.get("reason", "").startswith(reason), one.get("lost")) for one in lines] == [
        ("telemetry_not_sent", True, None),
        ("telemetry_sent_again", False, 2),
    ]


def test_collector_that_wants_more_time_than_there_is_is_not_waited_for(collector: Collector) -> None:
    collector.answers, collector.retry_after = [503], "60"
    began = monotonic()

    taken, (line,) = sent()
    assert (taken, line["reason"], len(collector.requests)) == ([False], "503 Service Unavailable", 1)
    assert monotonic() - began < 5


def test_time_to_come_again_is_kept(collector: Collector) -> None:
    collector.answers, collector.retry_after = [503], "1"
    began = monotonic()

    assert sent()[0] == [True]
    assert monotonic() - began >= 1


def test_nothing_is_sent_after_an_abort(collector: Collector) -> None:
    sender = Sender("TRACES")
    sender.abort()

    assert (sender.send(BODY, 1), collector.requests) == (False, [])


def test_reason_names_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{OTLP}_ENDPOINT", "ftp://me:hunter2@127.0.0.1:9")

    taken, (line,) = sent()
    assert (taken, "hunter2" in str(line), "ftp://127.0.0.1:9" in line["reason"]) == ([False], False, True)


def test_certificates_are_the_environments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own, its_key, other = tmp_path / "own.pem", tmp_path / "own.key", tmp_path / "other.pem"
    _certify(own, its_key)
    _certify(other, tmp_path / "other.key")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(own, its_key)
    tls.load_verify_locations(own)
    tls.verify_mode = ssl.CERT_REQUIRED
    with Collector(tls) as collector:
        monkeypatch.setenv(f"{OTLP}_ENDPOINT", collector.url)
        monkeypatch.setenv(f"{OTLP}_TIMEOUT", "0.5")
        monkeypatch.setenv(f"{OTLP}_CERTIFICATE", str(own))
        monkeypatch.setenv(f"{OTLP}_CLIENT_CERTIFICATE", str(own))
        monkeypatch.setenv(f"{OTLP}_CLIENT_KEY", str(its_key))
        assert sent() == ([True], [])

        monkeypatch.setenv(f"{OTLP}_CERTIFICATE", str(other))
        taken, (line,) = sent()
        assert (taken, "CERTIFICATE_VERIFY_FAILED" in line["reason"]) == ([False], True)

        monkeypatch.setenv(f"{OTLP}_CERTIFICATE", str(tmp_path / "none.pem"))
        taken, (line,) = sent()
        assert (taken, "none.pem" in line["reason"]) == ([False], True)

        monkeypatch.setenv(f"{OTLP}_CERTIFICATE", str(own))
        monkeypatch.delenv(f"{OTLP}_CLIENT_CERTIFICATE")
        assert sent()[0] == [False]
        assert len(collector.spans) == 1


def _certify(certificate: Path, key_file: Path) -> None:
    """For 127.0.0.1, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, certificate.stem)])
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(clock.now() - timedelta(days=1))
    made = made.not_valid_after(clock.now() + timedelta(days=1))
    address = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    signed = made.add_extension(address, critical=False).sign(key, SHA256())
    key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    certificate.write_bytes(signed.public_bytes(Encoding.PEM))
