"""Input guardrails that run beside the model: what the SDK's streamed runs leave to their host."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import structlog
from agents import InputGuardrailTripwireTriggered, RunResultStreaming
from agents.exceptions import (
    OutputGuardrailTripwireTriggered,
    ToolInputGuardrailTripwireTriggered,
    ToolOutputGuardrailTripwireTriggered,
)

_WATCH_SECONDS = 0.05
_KINDS: Final[Mapping[type[BaseException], str]] = {
    InputGuardrailTripwireTriggered: "input",
    OutputGuardrailTripwireTriggered: "output",
    ToolInputGuardrailTripwireTriggered: "tool_input",
    ToolOutputGuardrailTripwireTriggered: "tool_output",
}
_TRIPPED: Final = tuple(_KINDS)

log = structlog.get_logger(__name__)


@contextmanager
def watched(result: RunResultStreaming, *, is_needed: bool) -> Iterator[None]:
    """Stops the run as soon as an input guardrail trips; the SDK itself waits until the model has finished.

    Raises InputGuardrailTripwireTriggered at the end, which cancelling made the SDK forget.
    """
    watcher = asyncio.create_task(_watch(result)) if is_needed else None
    try:
        yield
        _raise_tripped(result)
    except _TRIPPED as tripped:
        _tell_of(tripped)
        raise
    finally:
        if watcher:
            watcher.cancel()
    passed: list[Any] = [*result.input_guardrail_results, *result.output_guardrail_results]
    for one in passed:
        log.debug("guardrail_passed", guardrail=one.guardrail.get_name())


def _tell_of(tripped: Any) -> None:
    """The SDK puts the guardrail into a result of agents' guardrails, and not of tools'."""
    judged = tripped.guardrail_result if hasattr(tripped, "guardrail_result") else tripped
    log.info("guardrail_tripped", guardrail=judged.guardrail.get_name(), kind=_KINDS[type(tripped)])


async def _watch(result: RunResultStreaming) -> None:
    while result.run_loop_task is None or not result.run_loop_task.done():
        if any(guardrail.output.tripwire_triggered for guardrail in result.input_guardrail_results):
            result.cancel()
            return
        await asyncio.sleep(_WATCH_SECONDS)


def _raise_tripped(result: RunResultStreaming) -> None:
    for guardrail in result.input_guardrail_results:
        if guardrail.output.tripwire_triggered:
            raise InputGuardrailTripwireTriggered(guardrail)
