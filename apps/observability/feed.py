"""The feed: what happens in this process, as the live page shows it. It is the log, heard again.

Every line whose event has a kind (`kind_of`) is kept here as well, the last thousand of them, under a number. Those who
read ask for what came after a number, so that no reader is waited for, and a request pays for a copy of its lines and
for nothing else. A line's facts are told by name: what is no fact (an output, a traceback) does not get out.
"""

import threading
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from itertools import count
from time import time
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
KINDS: Final = {
    "run_": Kind.RUN,
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
_OF_A_KIND: Final = frozenset({"added", "changed", "error", "reason", "row", "rule", "table", "writer"})
_FACTS: Final = _NAMES | _OF_A_KIND
_PLAIN: Final = frozenset({int, float, bool, type(None)})
_ALARMING: Final = frozenset({"warning", "error", "critical"})


class _Kept:
    """An event in a ring. Lines of the log wait as they are until somebody reads: most are never read."""

    __slots__ = ("_event", "_line", "number")

    def __init__(self, number: int, line: Mapping[str, Any] | None = None, event: Event | None = None) -> None:
        self.number = number
        self._line = line
        self._event = event

    @property
    def event(self) -> Event:
        line = self._line
        if line is not None:
            self._event = _event(self.number, line)
            self._line = None
        assert self._event is not None
        return self._event


class Ring:
    """The last events of one worker, oldest first, and the starts of its runs that go on."""

    def __init__(self, kept: int = KEPT) -> None:
        self.last = 0
        self._kept: deque[_Kept] = deque(maxlen=kept)
        self._going_on: dict[str, _Kept] = {}
        # A thread that a destructor interrupts inside may come in once more, to tell of something.
        self._lock = threading.RLock()
        self._numbers = count(1)

    def add(self, line: Mapping[str, Any]) -> None:
        """Of this process's log. It gets its number here."""
        with self._lock:
            self._keep(_Kept(next(self._numbers), line=line), line["event"], line)

    def copy(self, event: Event) -> None:
        """An event of another process's ring. One that is not newer than the last is known already."""
        with self._lock:
            if event["number"] > self.last:
                self._keep(_Kept(event["number"], event=event), event["name"], event)

    def _keep(self, kept: _Kept, name: str, facts: Mapping[str, Any]) -> None:
        self.last = kept.number
        self._kept.append(kept)
        if name == STARTED:
            self._going_on[facts.get("run_id", "")] = kept
        elif name == FINISHED:
            self._going_on.pop(facts.get("run_id", ""), None)

    def after(self, number: int, most: int = KEPT) -> list[Event]:
        """The first `most` events after this number that are still here, and any older start of a run that goes on."""
        if number >= self.last:
            return []
        with self._lock:
            found: list[_Kept] = []
            for kept in reversed(self._kept):
                if kept.number <= number:
                    break
                found.append(kept)
            oldest = self._kept[0].number
            before = [kept for kept in self._going_on.values() if number < kept.number < oldest]
        return [kept.event for kept in [*before, *reversed(found)][:most]]


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


def tell(name: str, /, **facts: Any) -> None:
    """Of a run's start or end, whatever the log's level is. Where no page could read it: a test of a boolean."""
    if feed.is_on:
        level = "error" if facts.get("error_code") else "info"
        feed.ring.add({**context.current(), **facts, "event": name, "level": level, "timestamp": time()})


def hear(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """structlog's processor, after those that bind facts, level and timestamp. Passes the line on as it is."""
    if feed.is_on:
        name = event["event"]
        if name.__class__ is str and name not in _LEFT_OUT and (kind_of(name) or event["level"] in _ALARMING):
            _hear(name, event)
    return event


def _hear(name: str, event: EventDict) -> None:
    if name == _DECISION and event.get("outcome") == "allowed":
        return
    line = dict(event)
    line.pop("exc_info", None)  # it would keep the frames of its traceback alive, and what they worked on
    feed.ring.add(line)


def _event(number: int, line: Mapping[str, Any]) -> Event:
    name, at = line["event"], line["timestamp"]
    kind = kind_of(name)
    return {
        "number": number,
        "at": f"{datetime.fromtimestamp(at, UTC).isoformat()[:-6]}Z" if isinstance(at, float) else at,
        "kind": kind or Kind.PROBLEM,
        "name": name,
        "level": line["level"],
        **_facts(line, _FACTS if kind else _NAMES),
    }


def _facts(line: Mapping[str, Any], wanted: frozenset[str]) -> dict[str, Any]:
    return {
        name: value if value.__class__ in _PLAIN else _text(value)[:LONGEST]
        for name, value in line.items()
        if name in wanted
    }


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


_kinds: dict[str, Kind | None] = {}


def kind_of(name: str) -> Kind | None:
    """Of an event, by its name; None when it is none for the page, but for a warning."""
    try:
        return _kinds[name]
    except KeyError:
        begin = max(filter(name.startswith, KINDS), key=len, default="")
        if len(_kinds) > KEPT:  # names are few, unless somebody makes them up
            _kinds.clear()
        _kinds[name] = KINDS.get(begin)
        return _kinds[name]
