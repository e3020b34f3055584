"""The part of a module that runs instead of defining, ended where it begins to run.

Scripts call their agent, or ask at the keyboard, as they are imported. While a module is loaded no run of it reaches a
model: the run ends the module there, and what it defined before can serve.
"""

import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, NoReturn

# What a dry run answers, in turn, when it is asked at the keyboard: a number is a choice and a text as well.
_ANSWERS = ("1", "Hello", "yes")
_ANSWERED = 30
_PATIENCE = 100


class Halt(BaseException):
    """Raised into a program where it would run its agent, or ask at the keyboard. No module's `except` is for it."""


class WouldRun(Halt):
    pass


class WouldAsk(Halt):
    pass


@dataclass(slots=True)
class Program:
    """What a module does while it is loaded.

    `agent` is the first that it gave to Runner, `context` what it gave with it; `built` are all that a dry run built.
    """

    answers: Iterator[str]
    agent: Any = None
    context: Any = None
    built: list[Any] = field(default_factory=list)
    is_answering: bool = False
    is_silent: bool = False
    _halts: int = 0

    def run(self, agent: Any, context: Any = None) -> NoReturn:
        if self.agent is None:
            self.agent, self.context = agent, context
        self._halt(WouldRun())

    def ask(self) -> str:
        """A line, while there are any."""
        line = next(self.answers, None)
        return self._halt(WouldAsk()) if line is None else line

    def _halt(self, halt: Halt) -> NoReturn:
        self._halts += 1
        if self._halts > _PATIENCE:  # it catches everything and tries again: its thread, left behind, must not spin
            threading.Event().wait()
        raise halt


_current: ContextVar[Program | None] = ContextVar("program", default=None)


def current() -> Program | None:
    """The program that this thread or task is part of; None outside of loading."""
    return _current.get()


@contextmanager
def watched(*, answers: bool) -> Iterator[Program]:
    """What runs inside is a module's program. It stays one in the tasks and worker threads that it starts."""
    lines = itertools.islice(itertools.cycle(_ANSWERS), _ANSWERED) if answers else iter(())
    program = Program(lines, is_answering=answers)
    token = _current.set(program)
    try:
        yield program
    finally:
        _current.reset(token)


def is_ended_by(error: BaseException) -> bool:
    """Whether a module that raised this had come to its end; exit with a status is a failure."""
    return isinstance(error, Halt) or (isinstance(error, SystemExit) and not error.code)


def ask(prompt: object = "") -> str:
    """`input` of the drop-ins."""
    program = _current.get()
    return program.ask() if program else input(prompt)
