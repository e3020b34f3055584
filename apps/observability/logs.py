"""One event, one line: JSON for machines, colours on a terminal. Lines of Django, uvicorn and the SDK pass here too."""

import logging
import sys
from datetime import UTC, datetime
from typing import Any

import msgspec
import structlog
from structlog.typing import EventDict, Processor

from apps.core.tally import Tally, is_told
from apps.observability import context, feed

# Without the frames' local variables: passwords, keys and prompts stand in them.
_tracebacks = structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False))


_encode = msgspec.json.Encoder(enc_hook=repr).encode


def _json(_logger: Any, _method: str, event: EventDict) -> bytes:
    return _encode(event)


def _json_text(_logger: Any, _method: str, event: EventDict) -> str:
    return _encode(event).decode()


def _timestamp(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """ISO 8601 in UTC, at half the cost of structlog's own."""
    event["timestamp"] = f"{datetime.now(UTC).isoformat()[:-6]}Z"
    return event


_unreadable = Tally()


def _is_told(record: logging.LogRecord) -> bool:
    """Whoever sends what is no HTTP makes uvicorn warn each time."""
    return not record.getMessage().startswith("Invalid HTTP request") or is_told(_unreadable.add())


def _is_no_refusal(record: logging.LogRecord) -> bool:
    """`authentication_failed` tells of those, and not of every one."""
    return getattr(record, "status_code", None) not in (401, 429)


def configure_logging(options: dict[str, str]) -> None:
    """Django calls this with settings.LOGGING: `level` and `format` (auto, json, console)."""
    on_terminal = sys.stderr.isatty() if options["format"] == "auto" else options["format"] == "console"
    shared: list[Processor] = [
        context.merge,
        structlog.stdlib.add_log_level,
        _timestamp,
    ]
    readable: list[Processor] = [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
    level = logging.getLevelNamesMapping().get(options["level"], logging.INFO)
    structlog.configure(
        processors=[*shared, feed.hear, *(readable if on_terminal else [_tracebacks, _json])],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        # Lines of JSON go out as bytes, each in one write.
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr)
        if on_terminal
        else structlog.BytesLoggerFactory(file=sys.stderr.buffer),
        cache_logger_on_first_use=True,
    )
    output = logging.StreamHandler(sys.stderr)
    output.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *(readable if on_terminal else [_tracebacks, _json_text]),
            ],
        )
    )
    logging.basicConfig(handlers=[output], level=level, force=True)
    logging.getLogger("django.request").addFilter(_is_no_refusal)
    logging.getLogger("uvicorn.error").addFilter(_is_told)
    for noisy in ("asyncio", "uvicorn.error", "httpx2", "httpcore2", "mcp"):
        logging.getLogger(noisy).setLevel(max(level, logging.WARNING))
