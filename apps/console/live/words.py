"""An event of the feed in an operator's words: one line of the live page."""

from collections.abc import Callable
from string import Formatter
from typing import Final

import msgspec

from apps.access.keys import key_names
from apps.core import live_config
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
    key = _text(event, "key") or _named(event.get("key_id"))
    user = _text(event, "user")
    return f"{key} ({user})" if user and user != key else key


def _named(key_id: int | None) -> str:
    """Never asks the database: a page is told while requests are served."""
    if not key_id:
        return ""
    return (key_names.find(key_id) if live_config.is_loaded() else None) or f"key {key_id}"


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
    """What its name says, and the facts that have no column."""
    said, told = _said(event)
    rest = {
        fact: value
        for fact, value in event.items()
        if fact not in _SHOWN_ELSEWHERE and fact not in told and value not in (None, "", 0)
    }
    why = [str(rest.pop(fact)) for fact in _WHY if fact in rest]
    facts = [f"{fact.replace('_', ' ')} {value}" for fact, value in rest.items()]
    return ": ".join([", ".join([said, *facts]), *why])


def _said(event: Event) -> tuple[str, set[str]]:
    """A sentence, and the facts that are in it."""
    sentence = SENTENCES.get(event["name"])
    if sentence is not None:
        told = {field for _, field, _, _ in Formatter().parse(sentence) if field}
        if all(_text(event, fact) for fact in told):
            return sentence.format_map(event), told
    name = event["name"].replace("_", " ").replace(".", " ").replace("mcp ", "MCP ")
    outcome = _text(event, "outcome")
    return f"{name}: {outcome}" if outcome else name, set()


def _text(event: Event, fact: str) -> str:
    value = event.get(fact)
    return "" if value is None else str(value)


_WHY: Final = ("reason", "error")  # sentences already: they stand last
SENTENCES: Final = {
    "agent_loaded": "version {version} serves",
    "agent_not_approved": "version {version} is not approved",
    "agent_not_loaded": "does not load",
    "agent_tools_missing": "names tools that there are not",
    "agents_refreshed": "discovery found something new",
    "approval_wanted": "waits for a person's approval",
    "authentication_failed": "key or password refused",
    "configuration_changed": "configuration {version} is in force",
    "configuration_written": "configuration: {action} {table} {row}",
    "database_away": "the database does not answer",
    "handoff_made": "{source} hands over to {target}",
    "identity_refused": "signed person refused",
    "limit_store_back": "limits are enforced again",
    "limit_store_down": "limits are not enforced",
    "live_feed_back": "workers tell each other again",
    "live_feed_down": "workers do not tell each other",
    "mcp_gateway_unread": "adapters of {server} could not be read",
    "mcp_server_closed": "MCP server {server} closed",
    "mcp_server_connected": "MCP server {server} connected",
    "mcp_server_lost": "MCP server {server} lost",
    "mcp_server_silent": "MCP server {server} does not answer",
    "mcp_server_unavailable": "MCP server {server} cannot be connected",
    "mcp_tool_unusable": "tool {tool} of MCP server {server} cannot be used",
    "mcp_tools_read": "tools of MCP server {server} read",
    "mcp_tools_unread": "tools of MCP server {server} could not be read",
    "override_ended": "override ended: {rule}",
    "override_made": "override made: {rule}",
    "request_crashed": "the gateway itself failed",
    "rows_dropped": "{count} rows of {writer} dropped",
    "rows_lost": "{count} rows of {writer} lost",
    "rows_not_written": "{count} rows of {writer} wait for the database",
    "run_raised": "its code or its upstream raised",
    "stream_crashed": "the gateway itself failed in a stream",
    "upstream_not_read": "models of {upstream} could not be read",
    "upstream_state_changed": "{upstream} is {state}",
    "version_put_back": "version {version} of {folder_id} put back",
    "worker_started": "a worker serves",
    "worker_stopped": "a worker has stopped",
}
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
