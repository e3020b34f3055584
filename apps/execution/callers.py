"""For whom a run works: set when it begins, seen by everything that happens in it.

A ContextVar reaches tasks and the threads of asyncio. A thread that a module starts itself does not inherit it: what
such a thread does is judged for everyone who may have started it.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from apps.access.subject import Key, Subject
from apps.catalog import packages

_NOBODY: Final = Subject(Key(0, "nobody"))  # for whom the rules of everyone and of the namespace speak


@dataclass(eq=False, slots=True)
class Caller:
    """Who asked, which agent serves in which run, and the package that this agent's version is loaded as."""

    subject: Subject
    agent_id: str
    package: str
    run_id: str = ""
    refused: dict[str, str] = field(default_factory=dict)  # what the model was not offered, and the sentence why
    tool_calls: defaultdict[str, int] = field(default_factory=partial(defaultdict, int))  # in the run, of the gateway's

    @property
    def namespace(self) -> str:
        return self.agent_id.partition("/")[0]


_current: ContextVar[Caller | None] = ContextVar("caller", default=None)
_under_way: set[Caller] = set()


@contextmanager
def working_for(subject: Subject | None, agent_id: str, package: str, run_id: str = "") -> Iterator[None]:
    """What is done inside, and by whatever task is begun there, is done for this caller. A run without a gateway has
    none, and is not governed."""
    with under_way(begin(subject, agent_id, package, run_id)):
        yield


def begin(subject: Subject | None, agent_id: str, package: str, run_id: str = "") -> Caller | None:
    """For the rest of the request's task, as the call log is. None where there is no gateway."""
    if subject is None:
        return None
    caller = Caller(subject, agent_id, package, run_id)
    _current.set(caller)
    return caller


@contextmanager
def under_way(caller: Caller | None) -> Iterator[None]:
    """Inside, its run goes on."""
    if caller is None:
        yield
        return
    _under_way.add(caller)
    try:
        yield
    finally:
        _under_way.discard(caller)


def current() -> Caller | None:
    return _current.get()


def possible() -> Sequence[Caller]:
    """The caller; where that was lost, everyone who has a run under way in this process."""
    known = _current.get()
    return (known,) if known else list(_under_way)


def narrowed(callers: Sequence[Caller], package: str) -> Sequence[Caller]:
    """Those whose run can have come to code of this package ("" for code that anybody may call); never empty."""
    if _current.get():
        return callers
    of_package = [one for one in callers if package in ("", one.package)]
    return of_package or [_nobody(package)]


def _nobody(package: str) -> Caller:
    found = packages.find(package)
    return Caller(_NOBODY, found.agent_id if found else "", package)
