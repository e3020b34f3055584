"""The feed: what happens in this process, as the live page shows it. It is the log, heard again.

Every line whose event has a kind (`kind_of`) is kept here as well, the last thousand of them, under a number. Those who
read ask for what came after a number, so that no reader is waited for and none costs a request anything. A line's
facts are taken over by name: what is no fact (an output, a traceback) does not get in.
"""

import threading
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from itertools import count
from typing import Any, Final

from structlog.typing import EventDict

from apps.core import ids
from apps.observability import context

Event = Mapping[str, Any]  # `number`, `at`, `kind`, `name`, `level` and facts

KEPT: Final = 1000  # events
LONGEST: Final = 300  # characters of a fact


class Kind(StrEnum):
    RUN = "run"
    STEP = "step"
    REQUEST = "request"
    DISCOVERY = "discovery"
    HEALTH = "health"
    ACCESS = "access"
    CONFIGURATION = "configuration"
    PROBLEM = "problem"  # a warning or error of another name


STARTED: Final = "run_started"
FINISHED: Final = "run_finished"

_LEFT_OUT: Final = frozenset(
    {
        # The log's level filters lines before anybody hears them: runs are told of by hand, or one would seem to go on
        # forever whose end is below the level.
        STARTED,
        FINISHED,
        "run_contents",
        "tool_contents",
        "mcp_server_stderr",  # what a program prints
        "mcp_server_stderr_left_out",
    }
)

_DECISION: Final = "agent.security.decision"  # of which a run has one at least: those that denied something are told

# By how the event's name begins, the longest first: docs/live.md lists them.
_KINDS: Final = {
    "run_raised": Kind.RUN,
    "sdk_agent": Kind.STEP,
    "tool_call": Kind.STEP,
    "model_call": Kind.STEP,
    "handoff": Kind.STEP,
    "guardrail": Kind.STEP,
    "approval": Kind.STEP,
    "request_": Kind.REQUEST,
    "stream_crashed": Kind.REQUEST,
    "agent_tools_missing": Kind.HEALTH,
    "agent.security": Kind.ACCESS,
    "agent_": Kind.DISCOVERY,
    "agents_": Kind.DISCOVERY,
    "discovery_": Kind.DISCOVERY,
    "version_": Kind.DISCOVERY,
    "module": Kind.DISCOVERY,
    "upstream_": Kind.HEALTH,
    "mcp_": Kind.HEALTH,
    "limit_store_": Kind.HEALTH,
    "live_feed_": Kind.HEALTH,
    "database_": Kind.HEALTH,
    "rows_": Kind.HEALTH,
    "worker_": Kind.HEALTH,
    "access_": Kind.ACCESS,
    "authentication_": Kind.ACCESS,
    "identity_": Kind.ACCESS,
    "override_": Kind.ACCESS,
    "configuration_": Kind.CONFIGURATION,
}

_NAMES: Final = frozenset(
    {
        "action", "address", "agent", "code", "count", "duration_ms", "error_code", "error_stage", "failed",
        "folder_id", "gone", "guardrail", "handoff", "key", "key_id", "loaded", "method", "model", "module", "outcome",
        "path", "problems",
        "reference", "request_id", "run_id", "runs_lost", "server", "source", "stage", "state", "status", "target",
        "tokens", "tool", "trace_id", "upstream", "user", "version",
    }
)  # fmt: skip
# Of events that have a kind: what a warning that nobody thought of says here may quote a prompt.
_SENTENCES: Final = frozenset({"error", "reason", "rule"})
_FACTS: Final = _NAMES | _SENTENCES
_PLAIN: Final = frozenset({int, float, bool, type(None)})
_ALARMING: Final = frozenset({"warning", "error", "critical"})


class Ring:
    """The last events of one worker, oldest first, and the starts of its runs that go on."""

    def __init__(self, kept: int = KEPT) -> None:
        self.last = 0
        self._events: deque[Event] = deque(maxlen=kept)
        self._going_on: dict[str, Event] = {}
        # A thread that a destructor interrupts inside may come in once more, to tell of something.
        self._lock = threading.RLock()
        self._numbers = count(1)

    def add(self, event: dict[str, Any]) -> None:
        """An event of this process, which gets its number here."""
        with self._lock:
            event["number"] = next(self._numbers)
            self._keep(event)

    def copy(self, event: Event) -> None:
        """An event of another process's ring. One that is not newer than the last is known already."""
        if event["number"] > self.last:
            self._keep(event)

    def _keep(self, event: Event) -> None:
        self.last = event["number"]
        self._events.append(event)
        if event["name"] == STARTED:
            self._going_on[event.get("run_id", "")] = event
        elif event["name"] == FINISHED:
            self._going_on.pop(event.get("run_id", ""), None)

    def after(self, number: int, most: int = KEPT) -> list[Event]:
        """The first `most` events after this number that are still here, and any older start of a run that goes on."""
        with self._lock:
            found: list[Event] = []
            for event in reversed(self._events):
                if event["number"] <= number:
                    break
                found.append(event)
            oldest = self._events[0]["number"] if self._events else 0
            before = [one for one in self._going_on.values() if number < one["number"] < oldest]
        return [*before, *reversed(found)][:most]


class Feed:
    """Of this process. Silent until `start`: a command has no live page."""

    def __init__(self) -> None:
        self.is_on = False
        self.worker = ""  # by which others tell its events from their own
        self.ring = Ring()

    def start(self) -> None:
        self.worker = ids.new_id("w")[:13]
        self.ring = Ring()
        self.is_on = True

    def stop(self) -> None:
        self.is_on = False


feed = Feed()


def tell(name: str, **facts: Any) -> None:
    """Of a run's start or end, whatever the log's level is. Where no page could read it: a test of a boolean."""
    if feed.is_on:
        told = {**context.current(), **facts}
        event = _facts(told, _FACTS)
        event["kind"], event["name"] = Kind.RUN, name
        event["level"] = "error" if told.get("error_code") else "info"
        event["at"] = f"{datetime.now(UTC).isoformat()[:-6]}Z"
        feed.ring.add(event)


def hear(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """structlog's processor, after those that bind facts, level and timestamp. Passes the line on as it is."""
    if feed.is_on:
        _hear(event)
    return event


def _hear(line: EventDict) -> None:
    name, level = line["event"], line["level"]
    if name.__class__ is not str or name in _LEFT_OUT or (name == _DECISION and line.get("outcome") == "allowed"):
        return
    kind = kind_of(name)
    if kind is None and level not in _ALARMING:
        return
    event = _facts(line, _FACTS if kind else _NAMES)
    event["kind"], event["name"], event["level"] = kind or Kind.PROBLEM, name, level
    event["at"] = line["timestamp"]
    feed.ring.add(event)


def _facts(told: Mapping[str, Any], wanted: frozenset[str]) -> dict[str, Any]:
    return {
        name: value if value.__class__ in _PLAIN else _text(value)[:LONGEST]
        for name, value in told.items()
        if name in wanted
    }


def _text(value: Any) -> str:
    """Texts are cut and objects are not kept: an exception would keep the frames of its traceback alive."""
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


_kinds: dict[str, Kind | None] = {}


def kind_of(name: str) -> Kind | None:
    """Of an event, by its name; None when it is none for the page, but for a warning."""
    try:
        return _kinds[name]
    except KeyError:
        begin = max(filter(name.startswith, _KINDS), key=len, default="")
        if len(_kinds) > KEPT:  # names are few, unless somebody makes them up
            _kinds.clear()
        _kinds[name] = _KINDS.get(begin)
        return _kinds[name]
