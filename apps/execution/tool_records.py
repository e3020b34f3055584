"""What came of a tool call, whoever's tool it was: one record, told to the metrics and to the log.

Every kind of call ends here: `observed` is the place for whoever wants to hear of all of them.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from time import perf_counter
from typing import Any, Final

import structlog

from apps.catalog import failure_kinds
from apps.execution import callers, steps, tool_metrics
from apps.execution.models import StepKind
from apps.tools.models import Kind
from apps.tools.tool import Tool
from apps.upstreams.calls import current_step

log = structlog.get_logger(__name__)


class Source(StrEnum):
    """Whose tool it is, and how it is reached."""

    NATIVE = "sdk-native"  # a module's function, an agent used as a tool, a tool of the SDK or of the model's provider
    MCP = "mcp"  # of an MCP server, the module's or the gateway's
    LOCAL = "gateway-local"
    HTTP = "gateway-http"

    @classmethod
    def of_gateway(cls, tool: Tool | None) -> "Source":
        """Of a tool of the gateway; the SDK's own where nothing is known of it, because here is no gateway."""
        return _SOURCES[tool.kind] if tool else cls.NATIVE


_SOURCES: Final = {Kind.LOCAL: Source.LOCAL, Kind.HTTP: Source.HTTP, Kind.MCP: Source.MCP}


class Outcome(StrEnum):
    """The gateway's own tools have further words for what goes wrong, such as timeout: CallFailed."""

    OK = "ok"
    ERROR = "error"  # it failed, or took too long
    DENIED = "denied"  # by a rule
    LIMIT = "limit"  # as often as it may be called in a run, it has been
    MISSING = "missing"  # it was taken away since the agent was loaded
    CANCELLED = "cancelled"  # the run ended first


@dataclass(frozen=True, slots=True)
class ToolCallRecord:
    """A call that was made or refused.

    `module` is the dotted name that rules are written for; the agent is the one that serves; `key_id` is 0 and `run_id`
    "" where a run is no client's. `duration_ms` is 0 of a call that was refused, and None of one that the model's
    provider made: nobody here knows how long that took.
    """

    source: Source
    tool: str
    module: str
    agent_id: str
    key_id: int
    run_id: str
    outcome: str
    duration_ms: float | None


def observed(record: ToolCallRecord) -> None:
    """Tell of the call."""
    took = None if record.outcome in _REFUSED else record.duration_ms
    tool_metrics.counted(record.tool, record.source.value, record.outcome, None if took is None else took / 1000)
    if record.outcome == Outcome.DENIED:
        failure_kinds.counted(failure_kinds.Kind.TOOL_VIOLATION)
    log.log(
        logging.INFO if record.outcome in _QUIET else logging.WARNING,
        "tool_call_finished",
        source=record.source.value,
        tool=record.tool,
        module=record.module,
        agent=record.agent_id,
        key_id=record.key_id,
        run_id=record.run_id,
        outcome=record.outcome,
        duration_ms=record.duration_ms and round(record.duration_ms, 1),
    )


_REFUSED: Final = frozenset({Outcome.DENIED, Outcome.LIMIT, Outcome.MISSING})
_QUIET: Final = frozenset({Outcome.OK, Outcome.CANCELLED, Outcome.DENIED, "cached"})  # a denial has its own warning


class ToolCall:
    """One call, and a step of the run. Is told of once, with the first outcome that it is given."""

    __slots__ = ("_began", "_is_told", "module", "source", "step", "tool")

    def __init__(self, source: Source, tool: str, module: str) -> None:
        self.source = source
        self.tool = tool
        self.module = module
        self._began = perf_counter()
        self._is_told = False
        self.step = steps.begin(StepKind.TOOL, tool, {"source": source.value, "module": module})

    def contents(self, arguments: Any = None, output: Any = None) -> None:
        """What it is given and answers, for where that is recorded."""
        log = steps.current_steps.get()
        if self.step is not None and log is not None and log.keeps:
            self.step.input = self.step.input if arguments is None else arguments
            self.step.output = self.step.output if output is None else output

    def failed(self, text: str) -> None:
        """What went wrong, as operators are told it."""
        if self.step is not None:
            self.step.error = text

    def refused(self, outcome: str) -> None:
        self._tell(outcome, 0.0)

    def made(self, outcome: str) -> None:
        self._tell(outcome, (perf_counter() - self._began) * 1000)

    def made_elsewhere(self, outcome: str) -> None:
        """By the model's provider."""
        if self.step is not None:
            self.step.detail = {**self.step.detail, "by": "the model's provider"}
        self._tell(outcome, None)

    def forget(self) -> None:
        """It was not made yet: a person has to approve it first."""
        self._is_told = True
        if self.step is not None and (log := steps.current_steps.get()) is not None:
            log.forget(self.step)

    def _tell(self, outcome: str, duration_ms: float | None) -> None:
        if self._is_told:
            return
        self._is_told = True
        if self.step is not None:
            self.step.end(str(outcome), self.step.error)
        caller = callers.current()
        observed(
            ToolCallRecord(
                source=self.source,
                tool=self.tool,
                module=self.module,
                agent_id=caller.agent_id if caller else "",
                key_id=caller.subject.key.id if caller else 0,
                run_id=caller.run_id if caller else "",
                outcome=str(outcome),
                duration_ms=duration_ms,
            )
        )


def in_words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


@contextmanager
def under_way(source: Source, tool: str, module: str) -> Iterator[ToolCall]:
    """The call is made inside: it is an error when that raises, else what the code inside says, else ok."""
    call = ToolCall(source, tool, module)
    before = current_step.get()
    if call.step is not None:
        current_step.set(call.step)
    try:
        yield call
        call.made(Outcome.OK)
    except Exception as error:
        call.failed(in_words(error))
        call.made(Outcome.ERROR)
        raise
    except BaseException:  # cancelled, or a module's sys.exit()
        call.made(Outcome.CANCELLED)
        raise
    finally:
        current_step.set(before)
