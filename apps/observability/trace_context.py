"""The trace that a run belongs to, as W3C's Trace Context has it (https://www.w3.org/TR/trace-context/).

A client's `traceparent` says which; without one the trace is the run's own, and its id the digits of the run's id.
Upstreams are told of it where the client sent one or traces are exported; else nothing is put into their requests.
"""

import re
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from apps.observability.telemetry import telemetry

_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})
_HEADER: Final = re.compile(r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_STATE: Final = re.compile(r"[\t\x20-\x7e]{1,512}")


class Parent(NamedTuple):
    """The span of the client in which it calls. `header` and `state` are what it sent."""

    trace_id: str
    span_id: str
    is_sampled: bool
    header: str
    state: str = ""


@dataclass(slots=True)
class RunTrace:
    """Of a run whose upstreams are told. `parent` is None where the trace begins with the run."""

    trace_id: str
    parent: Parent | None
    is_sampled: bool | None = None  # not asked yet

    def headers(self, span_id: str) -> dict[str, str]:
        """For a call that is the span `span_id`. Without an export that span is nowhere: the client's goes on."""
        state = {"tracestate": self.parent.state} if self.parent and self.parent.state else {}
        if telemetry.spans is None:
            return {"traceparent": self.parent.header, **state} if self.parent else {}
        if self.is_sampled is None:
            self.is_sampled = telemetry.spans.samples(self.trace_id, self.parent)
        return {"traceparent": f"00-{self.trace_id}-{span_id}-{self.is_sampled:02x}", **state}


current: ContextVar[RunTrace | None] = ContextVar("current_trace", default=None)


def begin(run_id: str, meta: Mapping[str, Any] = _NOTHING) -> Parent | None:
    """A run begins here, for a request with this META; returns the client's span, if it named one."""
    header = meta.get("HTTP_TRACEPARENT")
    parent = parsed(header, meta.get("HTTP_TRACESTATE", "")) if header else None
    if parent or telemetry.spans:
        current.set(RunTrace(trace_id_of(run_id, parent), parent))
    else:
        current.set(None)
    return parent


def trace_id_of(run_id: str, parent: Parent | None) -> str:
    return parent.trace_id if parent else run_id[-32:]


def parsed(header: str, state: str = "") -> Parent | None:
    """What the headers say; None where they are not as W3C has them, which is as good as none."""
    found = _HEADER.fullmatch(header)
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if version == "00" and more:
        return None
    return Parent(trace_id, span_id, bool(int(flags, 16) & 1), header, state if _STATE.fullmatch(state) else "")
