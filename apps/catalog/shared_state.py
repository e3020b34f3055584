"""What all modules of a process share and any of them may set: put back after one was imported.

Logging, warnings, limits, hooks, and the names of `asyncio`, `builtins`, `logging` and `signal` themselves.
"""

import asyncio
import asyncio.events
import asyncio.futures
import asyncio.runners
import asyncio.tasks
import builtins
import gc
import locale
import logging
import os
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import chain
from operator import attrgetter, is_
from types import ModuleType
from typing import Any

import structlog

Undo = Callable[[], None]

_ABSENT = object()

_LEVEL = attrgetter("level", "propagate", "disabled")
_HANDLERS, _FILTERS = attrgetter("handlers"), attrgetter("filters")

_KEPT: tuple[Any, ...] = (builtins, logging)
# Code that lets event loops nest replaces names in all of these, and leaves its marks there to do it but once.
_PATCHED: tuple[Any, ...] = (
    asyncio,
    asyncio.events,
    asyncio.futures,
    asyncio.runners,
    asyncio.tasks,
    asyncio.BaseEventLoop,
    asyncio.SelectorEventLoop,
)
# Each is read by the first function and set by the second.
_SETTINGS: tuple[tuple[Callable[[], Any], Callable[[Any], Any]], ...] = (
    (sys.getrecursionlimit, sys.setrecursionlimit),
    (sys.getswitchinterval, sys.setswitchinterval),
    (socket.getdefaulttimeout, socket.setdefaulttimeout),
    (gc.isenabled, lambda enabled: gc.enable() if enabled else gc.disable()),
    (gc.get_threshold, lambda threshold: gc.set_threshold(*threshold)),
    (lambda: locale.setlocale(locale.LC_ALL), lambda name: locale.setlocale(locale.LC_ALL, name)),
    (structlog.get_config, lambda config: structlog.configure(**config)),
    (asyncio.get_event_loop_policy, asyncio.set_event_loop_policy),
)
_HOOKS: tuple[tuple[ModuleType, str], ...] = (
    (sys, "excepthook"),
    (sys, "unraisablehook"),
    (sys, "displayhook"),
    (threading, "excepthook"),
)


@contextmanager
def restored() -> Iterator[None]:
    """Only one may be inside at a time."""
    with ExitStack() as stack:
        for read, write in _SETTINGS:
            stack.callback(_keep_setting(read, write))
        for owner in _KEPT:
            stack.callback(_keep_names(owner))
        for owner in _PATCHED:
            stack.callback(_keep_names(owner, only=True))
        for owner, name in _HOOKS:
            stack.callback(setattr, owner, name, getattr(owner, name))
        stack.callback(_keep_umask())
        stack.callback(_keep_logging())
        stack.callback(_lend_signals())
        stack.enter_context(warnings.catch_warnings())
        yield


def _keep_names(owner: Any, *, only: bool = False) -> Undo:
    """The names of a module or class; `only` them, but for sub-modules, which somebody imported."""
    before = vars(owner).copy()

    def undo() -> None:
        if _is_same(before, vars(owner)):
            return
        for name, value in dict(vars(owner)).items():
            if only and name not in before and not isinstance(value, ModuleType):
                delattr(owner, name)
        for name, value in before.items():
            if vars(owner).get(name, _ABSENT) is not value:
                setattr(owner, name, value)

    return undo


def _is_same(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """By identity and in the same order; without a loop in Python, for hundreds of names at every load."""
    return len(before) == len(after) and all(map(is_, before, after)) and all(map(is_, before.values(), after.values()))


def _keep_setting(read: Callable[[], Any], write: Callable[[Any], Any]) -> Undo:
    before = read()

    def undo() -> None:
        if read() != before:
            write(before)

    return undo


def _keep_umask() -> Undo:
    """It is read by setting it: for that moment, to what gives nobody more rights."""
    before = os.umask(0o077)
    os.umask(before)

    def undo() -> None:
        os.umask(before)

    return undo


def _keep_logging() -> Undo:
    """The root logger and all others that exist. Those that a module adds are its own."""
    root = logging.getLogger()
    disabled_below = root.manager.disable
    loggers = [root, *(one for one in root.manager.loggerDict.values() if isinstance(one, logging.Logger))]
    before = _state(loggers)
    handlers = {handler: (handler.level, handler.formatter) for handler in chain.from_iterable(before[1])}

    def undo() -> None:
        if _state(loggers) != before:
            for logger, (level, propagate, is_disabled), own_handlers, filters in zip(loggers, *before, strict=True):
                logger.handlers[:], logger.filters[:] = own_handlers, filters
                logger.propagate, logger.disabled = propagate, is_disabled
                if logger.level != level:
                    logger.setLevel(level)
        for handler, (level, formatter) in handlers.items():
            handler.level, handler.formatter = level, formatter
        if root.manager.disable != disabled_below:
            logging.disable(disabled_below)

    return undo


def _state(loggers: list[logging.Logger]) -> tuple[list[Any], list[Any], list[Any]]:
    """Without a loop in Python: there are a hundred of them, looked at twice for every load."""
    return (
        list(map(_LEVEL, loggers)),
        list(map(tuple, map(_HANDLERS, loggers))),
        list(map(tuple, map(_FILTERS, loggers))),
    )


def _lend_signals() -> Undo:
    """Signals are the gateway's: a handler that a module sets is not set. In a thread Python would refuse it."""
    usual = signal.signal

    def keep(signalnum: int, handler: Any, /) -> Any:
        if threading.current_thread() is threading.main_thread():  # kept by somebody: it means the usual one there
            return usual(signalnum, handler)
        return signal.getsignal(signalnum)

    signal.signal = keep  # type: ignore[assignment]

    def undo() -> None:
        signal.signal = usual

    return undo
