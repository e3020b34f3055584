"""Compiling and parsing, for large texts in a process of its own: both hold up every other thread until they end.

Half a megabyte takes a second. The code, the answers and the errors are the same either way.
"""

import subprocess
import sys
from functools import cache
from typing import TYPE_CHECKING, Any, cast

import structlog
from django.conf import settings

from apps.catalog import apart_process
from apps.catalog.source import ANSWERS, Source

if TYPE_CHECKING:
    from types import CodeType

LARGE = 24 * 1024  # bytes; they take about 20 ms, as long as it takes to start a process

_START = "import sys; sys.path.insert(0, sys.argv.pop(1)); from apps.catalog import apart_process; apart_process.main()"

log = structlog.get_logger(__name__)


def code(text: bytes, file: str) -> "CodeType":
    """Raises SyntaxError and ValueError, as compile() does."""
    return cast("CodeType", _ask("code", text, file))


def source(text: bytes, file: str) -> Source:
    return Source(text, file) if len(text) < LARGE else cast("Source", _LargeSource(text, file))


def imports(text: bytes, file: str) -> list[tuple[str, int]]:
    return cast("list[tuple[str, int]]", _ask("imports", text, file))


def modules_for_program(text: bytes, file: str) -> dict[str, int]:
    return cast("dict[str, int]", _ask("modules_for_program", text, file))


class _LargeSource:
    """Has all answers of a Source when the first one is asked for."""

    def __init__(self, text: bytes, file: str) -> None:
        self._text, self._file = text, file

    def __getattr__(self, name: str) -> Any:
        if name not in ANSWERS:
            raise AttributeError(name)
        vars(self).update(_ask("answers", self._text, self._file))
        return vars(self)[name]


def _ask(question: str, text: bytes, file: str) -> Any:
    output = _output(question, text, file) if len(text) >= LARGE else None
    return apart_process.QUESTIONS[question](text, file) if output is None else apart_process.unpacked(output)


def _output(question: str, text: bytes, file: str) -> bytes | None:
    """None when there can be no such process, or it fails: for what the text does to it, it would fail here too."""
    flags = ["-I", "-S", *(f"-W{option}" for option in sys.warnoptions), *["-O"] * sys.flags.optimize]
    command = [sys.executable, *flags, "-c", _START, str(settings.ROOT), question, file]
    try:
        return subprocess.run(command, input=text, stdout=subprocess.PIPE, check=True).stdout  # noqa: S603  # our own
    except OSError as error:
        _tell(str(error))
    except subprocess.CalledProcessError as error:
        _tell(f"the process ended with status {error.returncode}")
    return None


@cache  # once for each reason
def _tell(reason: str) -> None:
    log.warning("agent_source_read_in_process", reason=reason)
