"""Facts that every log line of what goes on here carries: request, run, key, agent, stage and more.

A ContextVar reaches the tasks that are begun here, and the threads of asyncio. It also reaches tasks that outlive the
run which began them: what they log then is no more that run's.
"""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from types import MappingProxyType
from typing import Any, Final

# Of a run, and of no other: on no line after it.
OF_A_RUN: Final = frozenset({"run_id", "agent", "module_path", "upstream", "model", "stage", "trace_id"})

_facts: ContextVar[Mapping[str, Any]] = ContextVar("log_facts", default=MappingProxyType({}))
_under_way: set[str] = set()  # the ids of the runs that are


def bind(**facts: Any) -> None:
    """From now on, in this task and in what it begins."""
    _facts.set({**_facts.get(), **facts})


def begin(**facts: Any) -> None:
    """These alone from now on: what was bound before belongs to something else, such as the connection's last one."""
    _facts.set(facts)


def begin_run(run_id: str, **facts: Any) -> None:
    """Bind these and the id, until the task that does this has ended."""
    _facts.set({**_facts.get(), "run_id": run_id, **facts})
    if task := asyncio.current_task():
        _under_way.add(run_id)
        task.add_done_callback(partial(_end, run_id))


def _end(run_id: str, _task: object) -> None:
    _under_way.discard(run_id)


@contextmanager
def bound(**facts: Any) -> Iterator[None]:
    """Inside only."""
    token = _facts.set({**_facts.get(), **facts})
    try:
        yield
    finally:
        _facts.reset(token)


def current() -> Mapping[str, Any]:
    """Those that hold now."""
    facts = _facts.get()
    if "run_id" in facts and facts["run_id"] not in _under_way:
        return {name: value for name, value in facts.items() if name not in OF_A_RUN}
    return facts
