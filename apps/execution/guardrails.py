"""Input guardrails that run beside the model: what the SDK's streamed runs leave to their host."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from agents import InputGuardrailTripwireTriggered, RunResultStreaming

_WATCH_SECONDS = 0.05


@contextmanager
def watched(result: RunResultStreaming, *, is_needed: bool) -> Iterator[None]:
    """Stops the run as soon as an input guardrail trips; the SDK itself waits until the model has finished.

    Raises InputGuardrailTripwireTriggered at the end, which cancelling made the SDK forget.
    """
    watcher = asyncio.create_task(_watch(result)) if is_needed else None
    try:
        yield
    finally:
        if watcher:
            watcher.cancel()
    _raise_tripped(result)


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
