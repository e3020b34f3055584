"""Where lines go: to standard error as it was when the process began, each in one write, whatever becomes of it."""

import errno
import fcntl
import io
import os
import sys
import threading
from collections.abc import Callable
from typing import BinaryIO, Final, TextIO

from prometheus_client import Counter

from apps.observability.metrics import REGISTRY

_LOST = Counter(
    "gateway_log_lines_lost",
    "Log lines that could not be written: a full disk, or nobody who reads them.",
    registry=REGISTRY,
)
_AGAIN: Final = 100  # writes of a line that is taken in pieces
_HIGH: Final = 200  # below 256, which is all that some systems give a process


class LineWriter:
    """Writes to a descriptor of its own, so that a module may close, replace or wrap `sys.stderr` as it likes.

    What cannot be written is counted and left out; once it works again, `tell_of_lost` is called with the number.
    """

    def __init__(self, tell_of_lost: Callable[[int], None], descriptor: int | None = None) -> None:
        self._tell = tell_of_lost
        self._descriptor = descriptor
        self._lock = threading.Lock()
        self._lost = 0
        self._is_cut = False  # the last line has no end
        os.register_at_fork(after_in_child=self._forget_lock)

    def _forget_lock(self) -> None:
        self._lock = threading.Lock()

    def write(self, line: bytes) -> None:
        """With the end of the line. Raises nothing."""
        with self._lock:
            try:
                self._put(b"\n" + line if self._is_cut else line)
            except (OSError, ValueError):  # counted, and told of when it works again
                self._lost += 1
                _LOST.inc()
                return
            lost, self._lost = self._lost, 0
        if lost:
            self._tell(lost)

    def _put(self, line: bytes) -> None:
        if self._descriptor is None:
            self._descriptor = _standard_error()
        try:
            written = os.write(self._descriptor, line)
        except OSError as error:
            if error.errno != errno.EBADF:
                raise
            self._descriptor = _standard_error()  # it was closed with all others, as Celery's beat does
            written = os.write(self._descriptor, line)
        if written == len(line):
            self._is_cut = False
            return
        self._is_cut = True
        for _ in range(_AGAIN):
            line = line[written:]
            written = os.write(self._descriptor, line)
            if written == len(line):
                self._is_cut = False
                return
        raise OSError(errno.EIO, "taken in too many pieces")


class WholeLines(io.TextIOBase):
    """`sys.stderr` for code that is not the gateway's: what it writes goes out line by line, between those of the log
    and never in front of one. It cannot be closed."""

    encoding, errors = "utf-8", "backslashreplace"
    _LONGEST: Final = 8192  # characters without an end of line

    def __init__(self, out: LineWriter, stream: TextIO) -> None:
        self._out = out
        self._stream = stream
        self._held = ""
        self._lock = threading.Lock()

    def write(self, text: str, /) -> int:
        with self._lock:
            whole, end, self._held = (self._held + text).rpartition("\n")
            if len(self._held) > self._LONGEST:
                whole, end, self._held = f"{whole}{end}{self._held}", "\n", ""
        if end:
            self._out.write(f"{whole}\n".encode(errors=self.errors))
        return len(text)

    def end(self) -> None:
        """Nobody will write the rest of the last line."""
        if self._held:
            self.write("\n")

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._stream.fileno()

    def isatty(self) -> bool:
        return self._stream.isatty()

    @property
    def buffer(self) -> BinaryIO:
        return self._stream.buffer

    def close(self) -> None:
        pass


def _standard_error() -> int:
    """A second descriptor of it. Raises OSError where the process has none.

    Its number is high: when somebody closes it, what is opened next, perhaps the database, must not be written to.
    """
    stream = sys.__stderr__ or sys.stderr
    if stream is None:
        raise OSError(errno.EBADF, "no standard error")
    return fcntl.fcntl(stream.fileno(), fcntl.F_DUPFD_CLOEXEC, _HIGH)
