"""Every call to a model that a run makes, nested ones included, counted where it is made.

The SDK's own sums miss the runs that a module starts itself and the calls that were cut short; a list in a ContextVar
sees them all, because tasks and worker threads inherit it.
"""

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, field


@dataclass(slots=True)
class ModelCall:
    """One call. `estimated` when the server reported no usage: then tokens are guessed from what was sent and seen."""

    upstream: str
    model: str
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    estimated: bool = True
    finish_reason: str | None = None


@dataclass(slots=True)
class CallLog:
    """The calls of one run, and `pace`: awaited now and then so that a model does not outrun a slow reader."""

    calls: list[ModelCall] = field(default_factory=list)
    pace: Callable[[], Awaitable[None]] | None = None


current_calls: ContextVar[CallLog | None] = ContextVar("current_calls", default=None)
