"""Every call to a model that a run makes, nested ones included, counted where it is made.

The SDK's own sums miss the runs that a module starts itself and the calls that were cut short; a list in a ContextVar
sees them all, because tasks and worker threads inherit it.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from apps.core.json import encode

_CHARACTERS_PER_TOKEN = 4  # the usual rule of thumb for English
_MOST_TOKENS = 20_000_000  # of a call; a hundred of them fit into a column
_MOST_UNREAD = 2000  # events
_LOOK_AGAIN = 0.05  # seconds


class Heard:
    """What a call was sent and what came of it, where that is recorded: of the answer the first `most` characters."""

    __slots__ = ("_pieces", "_room", "characters", "kept", "sent")

    def __init__(self, most: int) -> None:
        self.sent: Any = None  # the messages, the prompt or the items, as they went out
        self.characters = 0
        self.kept: str | None = None  # of the answer, once it was made fit to be kept
        self._pieces: list[str] = []
        self._room = most

    def hear(self, text: Any) -> None:
        if not isinstance(text, str) or not text:
            return
        self.characters += len(text)
        if self._room > 0:
            self._pieces.append(text[: self._room])
            self._room -= len(text)

    @property
    def answer(self) -> str:
        return "".join(self._pieces)


@dataclass(slots=True)
class ModelCall:
    """One call. `estimated` when the server reported no usage: then tokens are guessed from what was sent and seen.

    Times are perf_counter's: `began` when it was asked for, `answered` when the answer began, of a stream that is its
    first event. `attempts` counts requests to servers. `within` is what the run was doing (`current_step`).
    """

    upstream: str
    model: str
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    estimated: bool = True
    finish_reason: str | None = None
    began: float = field(default_factory=perf_counter, compare=False)
    answered: float | None = field(default=None, compare=False)
    ended: float | None = field(default=None, compare=False)
    attempts: int = field(default=0, compare=False)
    error: str = field(default="", compare=False)
    within: Any = field(default=None, compare=False)
    heard: Heard | None = field(default=None, compare=False)
    span_id: str = field(default="", compare=False)  # that its server was told, if it was

    def end(self, error: Exception | None = None) -> None:
        """It is over; only the first word of that counts."""
        if self.ended is None:
            self.ended = perf_counter()
            self.error = str(error) if error else ""

    def report(self, usage: Mapping[str, Any]) -> None:
        """Take over what a server reported, whose members may be missing or null."""
        self.estimated = False
        self.prompt_tokens, self.completion_tokens = number(usage, "prompt_tokens"), number(usage, "completion_tokens")
        if details := usage.get("prompt_tokens_details"):
            self.cached_tokens = number(details, "cached_tokens")
        if details := usage.get("completion_tokens_details"):
            self.reasoning_tokens = number(details, "reasoning_tokens")

    def estimate(self, sent: Any, received: int) -> None:
        """Guess the tokens of a call whose server reported none, or that was cut short."""
        self.estimated = True
        self.prompt_tokens = len(encode(sent)) // _CHARACTERS_PER_TOKEN
        self.completion_tokens = received


def number(counts: Any, name: str) -> int:
    """A count among those that a server reports; 0 where there is none. Never one that cannot be: limits and bills add
    them up, and a database has to hold the sum."""
    value = counts.get(name) if isinstance(counts, dict) else None
    if value.__class__ is int and 0 <= value <= _MOST_TOKENS:
        return value
    return int(min(max(value, 0), _MOST_TOKENS)) if isinstance(value, int | float) else 0


def _nothing_waits() -> int:
    return 0


@dataclass(slots=True)
class CallLog:
    """The calls of one run, and how many of its events wait to be read. `keeps` is how many characters of what is said
    are recorded; 0 for none."""

    calls: list[ModelCall] = field(default_factory=list)
    backlog: Callable[[], int] = _nothing_waits
    keeps: int = 0

    def begin(self, upstream: str, model: str) -> ModelCall:
        """A call that begins here and now. It has used nothing yet."""
        call = ModelCall(upstream, model, estimated=False, within=current_step.get())
        if self.keeps:
            call.heard = Heard(self.keeps)
        self.calls.append(call)
        return call

    async def wait_for_reader(self) -> None:
        """Returns when the run's reader is no longer far behind: a slow client slows its model down."""
        while self.backlog() > _MOST_UNREAD:  # noqa: ASYNC110  # the SDK's queue offers nothing to wait on
            await asyncio.sleep(_LOOK_AGAIN)


current_calls: ContextVar[CallLog | None] = ContextVar("current_calls", default=None)

# What the run is doing here: the agent or the tool in which a call is made (execution/steps.py).
current_step: ContextVar[Any] = ContextVar("current_step", default=None)

# Whether text of a run that waits may be handed on as one piece: only the gateway reads its deltas. A module's own
# code that watches a stream sees each as it came.
text_may_join: ContextVar[bool] = ContextVar("text_may_join", default=True)
