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
from contextlib import contextmanager
from itertools import chain
from operator import attrgetter, is_
from types import ModuleType
from typing import Any

import structlog

_ABSENT = object()

_LEVEL = attrgetter("level", "propagate", "disabled")
_HANDLERS, _FILTERS = attrgetter("handlers"), attrgetter("filters")

# Names that are new in these stay.
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
_OWNERS = (*_KEPT, *_PATCHED)
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


class SharedState:
    """All of it, as it was before the first of some loads. One load at a time, of all that there are."""

    def __init__(self) -> None:
        self._names = {owner: vars(owner).copy() for owner in _OWNERS}
        self._settings = [read() for read, _ in _SETTINGS]
        self._hooks = [getattr(owner, name) for owner, name in _HOOKS]
        self._logging = _Logging()

    @contextmanager
    def restored(self) -> Iterator[None]:
        """What happens inside is undone. Read once for many loads, compared after each: that costs half as much."""
        with warnings.catch_warnings(), _umask_kept(), _signals_lent():
            try:
                yield
            finally:
                self._logging.put_back()
                self._put_back()

    def _put_back(self) -> None:
        for (owner, name), hook in zip(_HOOKS, self._hooks, strict=True):
            setattr(owner, name, hook)
        for owner, names in self._names.items():
            if not _is_same(names, vars(owner)):
                _put_names_back(owner, names)
                self._names[owner] = vars(owner).copy()
        for (read, write), value in zip(_SETTINGS, self._settings, strict=True):
            if read() != value:
                write(value)


def _is_same(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """By identity and in the same order; without a loop in Python, for hundreds of names at every load."""
    return list(before) == list(after) and all(map(is_, before.values(), after.values()))


def _put_names_back(owner: Any, before: Mapping[str, Any]) -> None:
    for name, value in dict(vars(owner)).items():
        # Sub-modules stay: somebody imported them.
        if owner in _PATCHED and name not in before and not isinstance(value, ModuleType):
            delattr(owner, name)
    for name, value in before.items():
        if vars(owner).get(name, _ABSENT) is not value:
            setattr(owner, name, value)


@contextmanager
def _umask_kept() -> Iterator[None]:
    """It is read by setting it: for that moment, to what gives nobody more rights."""
    before = os.umask(0o077)
    os.umask(before)
    try:
        yield
    finally:
        os.umask(before)


@contextmanager
def _signals_lent() -> Iterator[None]:
    """Signals are the gateway's: a handler that a module sets is not set. In a thread Python would refuse it."""
    usual = signal.signal

    def keep(signalnum: int, handler: Any, /) -> Any:
        if threading.current_thread() is threading.main_thread():  # kept by somebody: it means the usual one there
            return usual(signalnum, handler)
        return signal.getsignal(signalnum)

    signal.signal = keep  # type: ignore[assignment]
    try:
        yield
    finally:
        signal.signal = usual


class _Logging:
    """The root logger and all others that exist. Those that a module adds are its own while it is loaded."""

    def __init__(self) -> None:
        self._read()

    def _read(self) -> None:
        root = logging.getLogger()
        self._known = list(root.manager.loggerDict.values())
        self._loggers = [root, *(one for one in self._known if isinstance(one, logging.Logger))]
        self._state = _state(self._loggers)
        self._handlers = {one: (one.level, one.formatter) for one in chain.from_iterable(self._state[1])}
        self._disabled_below = root.manager.disable

    def put_back(self) -> None:
        for handler, (level, formatter) in self._handlers.items():
            handler.level, handler.formatter = level, formatter
        if _state(self._loggers) != self._state:
            self._put_loggers_back()
        manager = logging.getLogger().manager
        if manager.disable != self._disabled_below:
            logging.disable(self._disabled_below)
        if list(manager.loggerDict.values()) != self._known:
            self._read()

    def _put_loggers_back(self) -> None:
        for logger, (level, propagate, is_disabled), handlers, filters in zip(self._loggers, *self._state, strict=True):
            logger.handlers[:], logger.filters[:] = handlers, filters
            logger.propagate, logger.disabled = propagate, is_disabled
            if logger.level != level:
                logger.setLevel(level)


def _state(loggers: list[logging.Logger]) -> tuple[list[Any], list[Any], list[Any]]:
    """Without a loop in Python: there are a hundred of them, looked at for every load."""
    return (
        list(map(_LEVEL, loggers)),
        list(map(tuple, map(_HANDLERS, loggers))),
        list(map(tuple, map(_FILTERS, loggers))),
    )
