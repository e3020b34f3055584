"""Facts that every log line of what goes on here carries: request, run, key, agent, stage and more.

A ContextVar reaches the tasks that are begun here, and the threads of asyncio.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

from structlog.typing import EventDict

_facts: ContextVar[Mapping[str, Any]] = ContextVar("log_facts", default=MappingProxyType({}))


def bind(**facts: Any) -> None:
    """From now on, in this task and in what it begins."""
    _facts.set({**_facts.get(), **facts})


@contextmanager
def bound(**facts: Any) -> Iterator[None]:
    """Inside only."""
    token = _facts.set({**_facts.get(), **facts})
    try:
        yield
    finally:
        _facts.reset(token)


def current() -> Mapping[str, Any]:
    return _facts.get()


def merge(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """structlog's processor. What a line says itself goes before what surrounds it."""
    return {**_facts.get(), **event}
