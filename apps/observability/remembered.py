"""Lines of the log that also stand under Errors: what goes wrong in layers that know no ring, or with no request.

The one table of them; docs/systems/observability.md says the same.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from structlog.typing import EventDict

from apps.observability.plain import said


@dataclass(frozen=True, slots=True)
class Remembered:
    """`stage` is "" where the line's own counts; `subject` is the fact that names whom it concerns."""

    stage: str
    subject: str
    remedy: str


_DATABASE: Final = "See whether the database answers and its disk has room; what waits is written when it does."
_REPORT: Final = "This is a fault of the gateway: report it with the traceback."
_MODULE: Final = "Mend the function; the traceback says where it failed."

LINES: Final[Mapping[str, Remembered]] = {
    "rows_not_written": Remembered("record", "writer", _DATABASE),
    "rows_lost": Remembered("record", "writer", _DATABASE),
    "rows_dropped": Remembered("record", "writer", _DATABASE),
    "row_refused": Remembered("record", "writer", _REPORT),
    "database_away": Remembered("", "path", _DATABASE),
    "request_crashed": Remembered("", "path", _REPORT),
    "stream_crashed": Remembered("stream", "agent", _REPORT),
    "drained_run_crashed": Remembered("stream", "agent", _REPORT),
    "trial_crashed": Remembered("execute", "agent", _REPORT),
    "periodic_failed": Remembered("record", "what", _DATABASE),
    "configuration_unreadable": Remembered("resolve", "", _DATABASE),
    "configuration_section_unreadable": Remembered(
        "resolve", "section", "The former values hold. Look at what was changed last, under Changes."
    ),
    "upstream_secret_unreadable": Remembered(
        "resolve", "upstream", "Enter the upstream's API key again, or bring the former secret_key back."
    ),
    "tool_secret_unreadable": Remembered(
        "resolve", "tool", "Enter the tool's secret again, or bring the former secret_key back."
    ),
    "mcp_secret_unreadable": Remembered(
        "resolve", "server", "Enter the server's headers again, or bring the former secret_key back."
    ),
    "limits_not_kept": Remembered("authorise", "", "See whether Redis answers at REDIS_URL."),
    "limit_store_down": Remembered("authorise", "", "See whether Redis answers at REDIS_URL; no limit holds."),
    "discovery_failed": Remembered("discover", "", _REPORT),
    "discovery_not_recorded": Remembered("discover", "", _DATABASE),
    "agent_import_left_behind": Remembered(
        "discover", "package", "Do not wait or loop at import; GATEWAY_AGENT_IMPORT_TIMEOUT bounds it."
    ),
    "version_not_put_back": Remembered("discover", "folder_id", "See whether the discovery folder can be written."),
    "spans_not_made": Remembered("record", "", _REPORT),
    "telemetry_unavailable": Remembered(
        "record", "", "Run `make otel` for its packages; docs/telemetry.md has the settings."
    ),
    "telemetry_not_sent": Remembered("record", "signal", "See whether the collector answers at its endpoint."),
    "tool_crashed": Remembered("execute", "tool", _REPORT),
    "tool_function_failed": Remembered("execute", "function", _MODULE),
    "tool_function_unusable": Remembered("execute", "function", _MODULE),
    "mcp_server_unavailable": Remembered("execute", "server", "See whether the MCP server runs and can be reached."),
    "mcp_server_lost": Remembered("execute", "server", "See whether the MCP server runs and can be reached."),
}


def remember(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """structlog's processor; the line says the stage that the row does."""
    name = event.get("event")
    if name.__class__ is str and name in LINES:
        event["stage"] = LINES[name].stage or event.get("stage") or "execute"
        if event.get("writer") != "error-ring":  # its own would have no end
            _note(str(name), event)
    return event


def _note(name: str, event: EventDict) -> None:
    from django.apps import apps

    if not apps.models_ready:
        return
    from apps.observability import error_ring

    line, error = LINES[name], _exception(event.get("exc_info"))
    told = event.get("reason") or event.get("error") or (said(error) if error else "")
    facts = {one: event[one] for one in ("agent", "upstream", "model", "path", "again_in", "count") if one in event}
    error_ring.note(
        event["stage"],
        code=name,
        subject=str(event.get(line.subject) or event.get("tool") or ""),
        message=str(told or name.replace("_", " ").capitalize()),
        remedy=line.remedy,
        last=facts,
        error=error,
    )


def _exception(given: Any) -> BaseException | None:
    if isinstance(given, BaseException):
        return given
    found = sys.exc_info() if given is True else given
    return found[1] if isinstance(found, tuple) and len(found) == 3 else None
