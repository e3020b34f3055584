"""One event, one line: JSON for machines, colours on a terminal. Lines of Django, uvicorn and the SDK pass here too.

Nothing that a line holds, and nothing that becomes of standard error, is raised to whoever logs.
"""

import logging
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache, lru_cache
from time import time_ns
from typing import Any, Final

import msgspec
import structlog
from structlog.typing import EventDict, Processor

from apps.core.tally import Tally, is_told
from apps.observability import context, feed, remembered
from apps.observability.levels import Levels
from apps.observability.plain import cut, plain, said
from apps.observability.writer import LineWriter, WholeLines

LONGEST_LINE: Final = 32_768  # bytes, before the values of a line are cut

log = structlog.get_logger(__name__)

# Without the frames' local variables: passwords, keys and prompts stand in them.
_tracebacks = structlog.processors.ExceptionRenderer(
    structlog.tracebacks.ExceptionDictTransformer(show_locals=False, max_frames=50)
)


def _tell_of_lost(count: int) -> None:
    log.error("log_lines_lost", count=count, remedy="Is the disk full, or does nobody read standard error?")


_out = LineWriter(_tell_of_lost)


# --- what a line looks like ------------------------------------------------------------------------------------------

_encode = msgspec.json.Encoder(enc_hook=repr).encode


def _json(_logger: Any, _method: str, event: EventDict) -> bytes:
    try:
        line = _encode(event)
    except Exception:  # noqa: BLE001  # half surrogates, tuples as keys, nesting without end, a repr that raises
        return _encode(plain(event))
    return line if len(line) <= LONGEST_LINE else _encode(plain(event))


def surrounded(_logger: Any, method: str, event: EventDict) -> EventDict:
    """What the line says, before it the facts that hold here, after it level and time (ISO 8601 in UTC). One processor
    for what structlog has three of: it runs twice a request."""
    return {**context.current(), **event, "level": _LEVELS.get(method, method), "timestamp": _timestamp()}


def _timestamp() -> str:
    second, microsecond = divmod(time_ns() // 1000, 1_000_000)
    return f"{_text_of(second)}.{microsecond:06}Z"


@lru_cache(maxsize=1)  # lines come many to a second
def _text_of(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).isoformat()[: -len("+00:00")]


_LEVELS: Final = {"exception": "error", "warn": "warning"}  # of methods that are named otherwise


def _with_traceback(logger: Any, method: str, event: EventDict) -> EventDict:
    """Exceptions as data."""
    return _tracebacks(logger, method, event) if "exc_info" in event else event


_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def _printable(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """What callers send must neither forge a line nor move the cursor."""
    return {name: _without_control(plain(value)) if name != "exc_info" else value for name, value in event.items()}


def _without_control(value: Any) -> Any:
    return _CONTROL.sub(lambda found: repr(found[0])[1:-1], value) if isinstance(value, str) else value


_console = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)


def _coloured(logger: Any, method: str, event: EventDict) -> bytes:
    try:
        return str(_console(logger, method, event)).encode(errors="backslashreplace")
    except Exception as error:  # noqa: BLE001  # it prints exceptions, which may refuse
        return f"{event.get('event')} ({said(error)})".encode(errors="backslashreplace")


# --- the gateway's own lines -----------------------------------------------------------------------------------------


class _Line:
    """What structlog writes to: named, so that its level can be another's."""

    __slots__ = ("name",)

    def __init__(self, name: str = "", *_: Any) -> None:
        self.name = name

    def msg(self, line: bytes) -> None:
        _out.write(line + b"\n")

    debug = info = warning = error = critical = fatal = log = msg


@cache
def _class_of(level: int) -> Callable[..., Any]:
    """structlog's, but that it copies a line's facts once instead of four times."""

    class Bound(structlog.make_filtering_bound_logger(level)):  # type: ignore[misc]  # a class that is made
        def _proxy_to_logger(self, method: str, event: str | None = None, /, **facts: Any) -> Any:
            line: Any = {**self._context, **facts, "event": event}
            try:
                for processor in self._processors:
                    line = processor(self._logger, method, line)
            except structlog.DropEvent:
                return None
            write = getattr(self._logger, method)
            if isinstance(line, dict):  # of a module that sets structlog up for itself, as the next
                return write(**line)
            return write(*line[0], **line[1]) if isinstance(line, tuple) else write(line)

    return Bound


def _of_level(levels: Levels) -> Callable[..., Any]:
    """What makes a bound logger: a call below its level does nothing at all."""

    def bound(logger: Any, processors: Any, context: Any) -> Any:
        level = levels.of(logger.name)
        return _class_of(level)(logger, processors, context)

    return bound


def settle() -> None:
    """Every logger of the gateway's modules is made now, and keeps what it is: a module that calls
    structlog.configure() while it runs sets up its own lines alone. No line has to look for its logger any more."""
    for name, module in list(sys.modules.items()):
        logger: Any = getattr(module, "log", None)
        if name.startswith(("apps.", "gateway_site.")) and hasattr(logger, "bind"):
            module.log = logger.bind()  # type: ignore[attr-defined]


@contextmanager
def whole_lines() -> Iterator[None]:
    """Inside, what modules write to `sys.stderr` breaks no line of ours. A terminal is left to them as it is."""
    stream = sys.stderr
    if stream is None or _is_terminal():
        yield
        return
    sys.stderr = lines = WholeLines(_out, stream)
    try:
        yield
    finally:
        sys.stderr = stream
        lines.end()


# --- lines of libraries and modules ----------------------------------------------------------------------------------

_tallies: dict[str, Tally] = {}


def _alike(name: str) -> bool:
    return is_told(_tallies.setdefault(name, Tally()).add())


def _is_told(record: logging.LogRecord) -> bool:
    """What whoever is outside can cause at will: told a few times a minute, or by lines of our own."""
    if record.name == "django.request":
        return getattr(record, "status_code", 500) >= 500  # of the others request_finished tells
    if record.name.startswith(("django.security", "websockets")):
        return _alike(record.name)
    if record.name == "uvicorn.error" and str(record.msg).startswith("Invalid HTTP request"):
        return _alike("unreadable")
    return True


# From a logger's name to the facts that hold wherever its module's code runs, also in threads of its own.
of_module: Callable[[str], Mapping[str, Any]] = lambda _name: {}  # noqa: E731  # replaced by who knows the modules


def know_modules(facts_of: Callable[[str], Mapping[str, Any]]) -> None:
    """`facts_of` says of a logger's name which agent and module it belongs to."""
    global of_module  # noqa: PLW0603  # set once, by the layer above that loads the modules
    of_module = facts_of


def _from_module(_logger: Any, _method: str, event: EventDict) -> EventDict:
    record = event.get("_record")
    return {**of_module(record.name), **event} if record else event


class _LineHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception as error:  # noqa: BLE001  # arguments that do not fit, or refuse to be shown
            line = self._unformatted(record, error)
        _out.write(line.encode(errors="backslashreplace") + b"\n")

    def _unformatted(self, record: logging.LogRecord, error: Exception) -> str:
        told = {
            "event": cut(plain(str.__str__(str(type(record.msg)) if not isinstance(record.msg, str) else record.msg)))
        }
        told |= {"logger": record.name, "unreadable": said(error)}
        return _json(None, "", surrounded(None, record.levelname.lower(), told)).decode()


# --- setting it up ---------------------------------------------------------------------------------------------------


def configure_logging(options: dict[str, str]) -> None:
    """Django calls this with settings.LOGGING: `level`, `levels` of loggers, and `format` (auto, json, console).

    Ends the process with a sentence when a level is none.
    """
    try:
        levels = Levels.parsed(options["level"], options.get("levels", ""))
    except ValueError as error:
        raise SystemExit(str(error)) from None
    has_colours = _is_terminal() if options["format"] == "auto" else options["format"] == "console"
    shared: list[Processor] = [surrounded, remembered.remember]
    rendered: list[Processor] = [_printable, _coloured] if has_colours else [_with_traceback, _json]
    structlog.configure(
        processors=[*shared, feed.hear, *rendered],
        wrapper_class=_of_level(levels),  # type: ignore[arg-type]  # any callable does
        logger_factory=_Line,
        cache_logger_on_first_use=True,
    )
    output = _LineHandler()
    output.addFilter(_is_told)
    output.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, _from_module, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendered, _as_text],
        )
    )
    logging.basicConfig(handlers=[output], level=levels.default, force=True)
    levels.apply()


def _as_text(_logger: Any, _method: str, line: Any) -> str:
    """For the standard library, whose formatters make text."""
    return str(line.decode())


def _is_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()
