"""An event of the feed in an operator's words: one line of the live page."""

from collections.abc import Callable
from typing import Final

import msgspec

from apps.observability.feed import Event

_FAILED: Final = frozenset({"failed", "error", "timeout", "invalid", "denied", "limit", "missing", "down"})
_SHOWN_ELSEWHERE: Final = frozenset(
    {
        "agent", "at", "duration_ms", "key", "key_id", "kind", "level", "name", "number", "outcome", "request_id",
        "run_id", "stage", "trace_id", "user",
    }
)  # fmt: skip


class Line(msgspec.Struct, omit_defaults=True):
    """As static/console/live.js reads it. A worker and a number name it."""

    worker: str
    number: int
    at: str
    kind: str
    name: str
    what: str
    is_bad: bool = False
    agent: str = ""
    key: str = ""
    run_id: str = ""
    request_id: str = ""
    duration_ms: float | None = None


def line(worker: str, event: Event) -> Line:
    return Line(
        worker=worker,
        number=event["number"],
        at=event["at"],
        kind=event["kind"],
        name=event["name"],
        what=_WORDS.get(event["name"], _in_general)(event),
        is_bad=is_bad(event),
        agent=_text(event, "agent"),
        key=_who(event),
        run_id=_text(event, "run_id"),
        request_id=_text(event, "request_id"),
        duration_ms=event.get("duration_ms"),
    )


def is_bad(event: Event) -> bool:
    """What the filter "only problems" leaves: warnings, errors, refusals."""
    status = event.get("status")
    return (
        event["level"] not in ("info", "debug")
        or event.get("outcome") in _FAILED
        or (isinstance(status, int) and status >= 400)
    )


def _who(event: Event) -> str:
    key = _text(event, "key") or (f"key {event['key_id']}" if event.get("key_id") else "")
    user = _text(event, "user")
    return f"{key} ({user})" if user and user != key else key


def _run_started(_event: Event) -> str:
    return "started"


def _run_finished(event: Event) -> str:
    told = [_text(event, "outcome") or "finished"]
    if event.get("model"):
        told.append(f"by {event.get('upstream')}/{event['model']}")
    if event.get("tokens"):
        told.append(f"{event['tokens']:,} tokens")
    if event.get("error_code"):
        told.append(f"{event['error_code']}: {_text(event, 'error')}")
    return ", ".join(told)


def _tool_call(event: Event) -> str:
    return f"{_text(event, 'tool')}: {_text(event, 'outcome') or 'called'}"


def _agent(event: Event) -> str:
    told = {"start": "agent started", "success": "agent succeeded", "failure": "agent failed"}
    word = event["name"].partition(".")[2]
    return ": ".join(filter(None, [told.get(word, f"agent {word}"), _text(event, "error")]))


def _guardrail(event: Event) -> str:
    return f"guardrail {_text(event, 'guardrail')} tripped"


def _decision(event: Event) -> str:
    return f"{_text(event, 'outcome')}: {_text(event, 'action')} {_text(event, 'target')} ({_text(event, 'code')})"


def _request(event: Event) -> str:
    status = f" → {event['status']}" if event.get("status") else ""
    return f"{_text(event, 'method')} {_text(event, 'path')}{status}".strip() or _in_general(event)


def _in_general(event: Event) -> str:
    """The event's name, and the facts that have no column."""
    name = event["name"].replace("_", " ").replace(".", " ")
    outcome = _text(event, "outcome")
    facts = [
        f"{fact.replace('_', ' ')} {value}"
        for fact, value in event.items()
        if fact not in _SHOWN_ELSEWHERE and value not in (None, "", 0)
    ]
    return ", ".join([f"{name}: {outcome}" if outcome else name, *facts])


def _text(event: Event, fact: str) -> str:
    value = event.get(fact)
    return "" if value is None else str(value)


_WORDS: Final[dict[str, Callable[[Event], str]]] = {
    "run_started": _run_started,
    "run_finished": _run_finished,
    "tool_call_finished": _tool_call,
    "sdk_agent.start": _agent,
    "sdk_agent.success": _agent,
    "sdk_agent.failure": _agent,
    "sdk_agent.cancelled": _agent,
    "guardrail_tripped": _guardrail,
    "agent.security.decision": _decision,
    "request_started": _request,
    "request_finished": _request,
}
