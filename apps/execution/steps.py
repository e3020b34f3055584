"""What a run does, as it does it: agents, model calls, tools, handoffs, guardrails, approvals.

Steps are noted in memory while the run goes on, and become rows behind it (step_rows.py). Who notes what: model calls
are in the CallLog (upstreams/calls.py), tools in tool_records.py, approvals in approvals.py; agents, handoffs and
guardrails come from the SDK's tracing (sdk_trace.py). A step knows the one that it was made in by a ContextVar, which
tasks and the threads of asyncio inherit.
"""

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from time import perf_counter
from types import MappingProxyType
from typing import Any, Final

from apps.execution.models import StepKind
from apps.upstreams.calls import current_step

MOST_STEPS: Final = 500  # of a run; what comes after is counted
OK: Final = "ok"
ERROR: Final = "error"
NO_DETAIL: Mapping[str, Any] = MappingProxyType({})


@dataclass(eq=False, slots=True)
class Step:
    """Times are perf_counter's; `ended` None while it goes on. `input` and `output` are as they came: what may be kept
    of them is decided when they are written."""

    kind: StepKind
    name: str
    within: "Step | None"
    began: float
    ended: float | None = None
    outcome: str = OK
    error: str = ""
    detail: Mapping[str, Any] = field(default_factory=lambda: NO_DETAIL)
    input: Any = None
    output: Any = None

    def end(self, outcome: str = OK, error: str = "") -> None:
        self.ended = perf_counter()
        self.outcome, self.error = outcome, error


@dataclass(eq=False, slots=True)
class StepLog:
    """The steps of one run. `keeps` is how many characters of contents are recorded; 0 for none."""

    steps: list[Step] = field(default_factory=list)
    left_out: int = 0
    keeps: int = 0
    is_closed: bool = False
    spans: dict[str, tuple[Step, BaseException | None]] = field(default_factory=dict)  # of sdk_trace.py, by their id

    def begin(self, kind: StepKind, name: str, detail: Mapping[str, Any] = NO_DETAIL) -> Step | None:
        """A step that begins here and now; None where the run has ended, or has made as many as are kept."""
        if self.is_closed:
            return None
        if len(self.steps) >= MOST_STEPS:
            self.left_out += 1
            return None
        step = Step(kind, name, current_step.get(), perf_counter(), detail=detail)
        self.steps.append(step)
        return step

    def forget(self, step: Step) -> None:
        """It did not come to pass."""
        self.steps.remove(step)


current_steps: ContextVar[StepLog | None] = ContextVar("current_steps", default=None)


def begin(kind: StepKind, name: str, detail: Mapping[str, Any] = NO_DETAIL) -> Step | None:
    """A step of the run that goes on here, if there is one."""
    log = current_steps.get()
    return log.begin(kind, name, detail) if log is not None else None


def note(kind: StepKind, name: str, outcome: str, detail: Mapping[str, Any] = NO_DETAIL) -> None:
    """A step that takes no time."""
    if step := begin(kind, name, detail):
        step.end(outcome)
