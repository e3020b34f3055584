"""stdin, stdout and stderr of a module that is being imported: it may close, detach or wrap them as it likes."""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from apps.catalog import program

_OUTPUTS = ("stdout", "stderr", "__stdout__", "__stderr__")
_INPUTS = ("stdin", "__stdin__")


@contextmanager
def lent() -> Iterator[None]:
    """They stay usable afterwards, for the handlers and wrappers that keep them."""
    usual = {name: getattr(sys, name) for name in (*_OUTPUTS, *_INPUTS)}
    for name in _OUTPUTS:
        if usual[name] is not None:  # a process without a terminal may have none
            setattr(sys, name, io.TextIOWrapper(_Output(usual[name]), "utf-8", "replace", write_through=True))
    for name in _INPUTS:
        setattr(sys, name, io.TextIOWrapper(io.BufferedReader(_Keyboard()), "utf-8"))
    try:
        yield
    finally:
        for name, stream in usual.items():
            setattr(sys, name, stream)


class _Output(io.RawIOBase):
    """Passes on what is written, as long as no program is run silently. It is never closed.

    A text stream that is collected closes what it wrote to, which may by then be what another one writes to.
    """

    def __init__(self, target: TextIO) -> None:
        self._target = target
        self._descriptor: int | None = None

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return self._target.isatty()

    def fileno(self) -> int:
        """A descriptor of its own: `open(sys.stdout.fileno(), "w")` closes it. It is never closed here."""
        if self._descriptor is None:
            self._descriptor = os.dup(self._target.fileno())
        return self._descriptor

    def write(self, data: Any) -> int:
        running = program.current()
        if running is None or not running.is_silent:
            self._target.write(bytes(data).decode(errors="replace"))
        return len(data)

    def flush(self) -> None:
        self._target.flush()

    def close(self) -> None:
        pass


class _Keyboard(io.RawIOBase):
    """The lines that a dry run answers with; at its end from the start where nothing is answered."""

    def __init__(self) -> None:
        self._left = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._left and (running := program.current()) is not None and running.is_answering:
            self._left = f"{running.ask()}\n".encode()
        size = min(len(buffer), len(self._left))
        buffer[:size], self._left = self._left[:size], self._left[size:]
        return size
