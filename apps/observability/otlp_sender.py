"""Sends to a collector over HTTP, as OpenTelemetry's variables say: where to, with what, and how long it tries.

Its own exporters send its own objects only: to make those of a run costs several times what it costs to send it.
"""

import gzip
import threading
import zlib
from collections.abc import Callable, Mapping
from math import inf
from random import uniform
from time import monotonic
from types import MappingProxyType
from typing import Final

import requests
from opentelemetry.util.re import parse_env_headers

from apps.core.version import VERSION
from apps.observability.otlp_watch import Watch
from apps.observability.telemetry import setting, variable

_TIMEOUT: Final = 10.0  # seconds
_PAUSES: Final = (0.1, 1.0, 2.0, 4.0, 8.0, 16.0)  # seconds before it is sent again; at first a connection was stale
_MAY_TAKE_IT_LATER: Final = frozenset({429, 502, 503, 504})  # as OTLP has it
_COMPRESSIONS: Final[Mapping[str, Callable[[bytes], bytes]]] = MappingProxyType(
    {"none": bytes, "gzip": gzip.compress, "deflate": zlib.compress}
)


class Sender:
    """Of one signal. Used by one thread, `abort` by another."""

    def __init__(self, signal: str) -> None:
        """Raises ValueError where a variable holds what it cannot."""
        told = setting(signal, "ENDPOINT")
        whole = variable(f"EXPORTER_OTLP_{signal}_ENDPOINT")
        self._url = whole or f"{told.removesuffix('/')}/v1/{signal.lower()}"
        self._timeout = float(setting(signal, "TIMEOUT") or _TIMEOUT)
        compression = setting(signal, "COMPRESSION").lower() or "none"
        if compression not in _COMPRESSIONS:
            raise ValueError(f"OTEL_EXPORTER_OTLP_COMPRESSION has to be one of {', '.join(_COMPRESSIONS)}.")
        self._compress = _COMPRESSIONS[compression]
        self._verify = setting(signal, "CERTIFICATE") or True
        certificate, key = setting(signal, "CLIENT_CERTIFICATE"), setting(signal, "CLIENT_KEY")
        self._certificate = (certificate, key) if certificate and key else certificate or None
        self._session = requests.Session()
        self._session.headers.update(
            {"content-type": "application/x-protobuf", "user-agent": f"agent-gateway/{VERSION}"}
        )
        if compression != "none":
            self._session.headers["content-encoding"] = compression
        self._session.headers.update(parse_env_headers(setting(signal, "HEADERS"), liberal=True))
        self._aborted = threading.Event()
        self._watch = Watch(signal.lower(), told)

    def send(self, body: bytes, count: int) -> bool:
        """Whether `body` was taken, which is `count` spans or metrics. Tries again until the time-out where that may
        help; what is not taken then is lost."""
        reason = self._sent(self._compress(body))
        if reason:
            self._watch.failed(count, reason)
        else:
            self._watch.sent()
        return not reason

    def abort(self) -> None:
        """Nothing is tried again from now on, and nothing new is sent."""
        self._aborted.set()

    def _sent(self, body: bytes) -> str:
        """Why it was not taken; empty where it was."""
        deadline = monotonic() + self._timeout
        pauses = iter(_PAUSES)
        reason = "The gateway stops."
        while not self._aborted.is_set():
            reason, wait = self._attempt(body, deadline - monotonic())
            if wait is None:
                break
            wait = max(wait, next(pauses, inf) * uniform(0.8, 1.2))  # noqa: S311  # so that not all come back at once
            if monotonic() + wait >= deadline:
                break
            self._aborted.wait(wait)
        return reason

    def _attempt(self, body: bytes, seconds: float) -> tuple[str, float | None]:
        """Why it was not taken, and for how long to wait at least before the next attempt; None for no other."""
        try:
            answer = self._session.post(
                self._url, body, timeout=seconds, verify=self._verify, cert=self._certificate, allow_redirects=False
            )
        except (requests.ConnectionError, requests.Timeout) as error:
            return str(error), 0.0
        except Exception as error:  # noqa: BLE001  # a certificate that is no file, a header that is no text: it is told
            return str(error) or type(error).__name__, None
        if 200 <= answer.status_code < 300:
            return "", None
        reason = f"{answer.status_code} {answer.reason}"
        return reason, _retry_after(answer) if answer.status_code in _MAY_TAKE_IT_LATER else None


def _retry_after(answer: requests.Response) -> float:
    told = answer.headers.get("retry-after", "")
    return float(told) if told.isdecimal() else 0.0
