"""Calling a tool of the gateway: bounded in time, number and size, repeated only where that is safe.

Whether the caller may is asked before, in execution/tool_calls.py, which every kind of tool passes.
"""

import asyncio
import logging
import random
from collections.abc import Mapping
from time import perf_counter
from typing import Any, Final

import structlog
from prometheus_client import Counter, Histogram

from apps.observability.metrics import REGISTRY
from apps.tools import http, local
from apps.tools.answers import answers
from apps.tools.arguments import canonical, check, parse
from apps.tools.lanes import Lane, Slot, lane_of
from apps.tools.tool import CallFailed, HttpCall, LocalCall, McpCall, Tool, ToolOutput

log = structlog.get_logger(__name__)

_CALLS = Counter("gateway_tool_calls", "Calls of the gateway's tools.", ["tool", "kind", "outcome"], registry=REGISTRY)
_SECONDS = Histogram(
    "gateway_tool_call_seconds",
    "Time that a call of a gateway's tool took, waiting and further attempts included.",
    ["tool", "kind"],
    buckets=(0.005, 0.02, 0.1, 0.3, 1, 3, 10, 30, 100),
    registry=REGISTRY,
)
_MOST_NAMES: Final = 500  # as labels of metrics; further tools are told together
_FIRST_PAUSE: Final = 0.2  # seconds before the second attempt, twice as long before each further one
_LONGEST_PAUSE: Final = 5.0
_EARLIER: Final = 0.98  # of its time-out is left to a server's own, which knows better what to tell


async def invoke(tool: Tool, arguments: str) -> ToolOutput:
    """Call it with the JSON text that a model wrote. Raises nothing but CancelledError: what goes wrong is told to the
    model, in a sentence that says what to do."""
    began = perf_counter()
    outcome = "cancelled"
    try:
        output, outcome = await _told(tool, arguments)
        return output
    finally:
        _note(tool, outcome, perf_counter() - began)


async def _told(tool: Tool, arguments: str) -> tuple[ToolOutput, str]:
    """With how it came out, for metrics and the log."""
    try:
        lane = lane_of(tool)
        return await _called(lane, parse(arguments))
    except CallFailed as failed:
        what = "was not called" if failed.outcome == "invalid_arguments" else "failed"
        return _error(tool, f"The tool '{tool.name}' {what}: {failed.message}"), failed.outcome
    except Exception:  # whatever it is, the run goes on
        log.exception("tool_crashed", tool=tool.name, kind=tool.kind.value)
        return _error(tool, f"The tool '{tool.name}' failed unexpectedly. Go on without it."), "crashed"


async def _called(lane: Lane, arguments: dict[str, Any]) -> tuple[ToolOutput, str]:
    tool = lane.tool
    check(arguments, lane.validator)
    if not tool.cache_seconds:
        return _with_outcome(await _bounded(lane, arguments))
    key = canonical(arguments)
    if (kept := answers().find(tool, key)) is not None:
        return kept, "cached"
    output, is_first = await answers().make(tool, key, lambda: _bounded(lane, arguments))
    return _with_outcome(output) if is_first else (output, "cached")


def _with_outcome(output: ToolOutput) -> tuple[ToolOutput, str]:
    return output, "error" if output.is_error else "ok"


# --- bounds ----------------------------------------------------------------------------------------------------------


async def _bounded(lane: Lane, arguments: Mapping[str, Any]) -> ToolOutput:
    """In time, in number, in size; without secrets. Raises CallFailed."""
    tool = lane.tool
    slot = await lane.enter()
    try:
        async with asyncio.timeout(tool.timeout) as limit:
            output = await _repeated(tool, arguments, slot, limit)
    except TimeoutError as error:
        raise CallFailed(f"it did not answer within {tool.timeout:g} s.", outcome="timeout") from error
    except CallFailed as failed:
        failed.message = lane.redacted(failed.message)
        raise
    finally:
        slot.leave()
    return ToolOutput(_cut(lane.redacted(output.text), tool.max_output_bytes), is_error=output.is_error)


async def _repeated(tool: Tool, arguments: Mapping[str, Any], slot: Slot, limit: asyncio.Timeout) -> ToolOutput:
    left = tool.retries if tool.is_idempotent else 0
    pause = _FIRST_PAUSE
    while True:
        try:
            return await _ask(tool, arguments, slot)
        except CallFailed as failed:
            seconds = failed.retry_after or pause * random.uniform(0.5, 1)  # noqa: S311  # spreads, guards nothing
            if not (left and failed.may_retry and _in_time(seconds, limit)):
                raise
        left, pause = left - 1, min(pause * 2, _LONGEST_PAUSE)
        await asyncio.sleep(seconds)


def _in_time(seconds: float, limit: asyncio.Timeout) -> bool:
    end = limit.when()
    return end is None or asyncio.get_running_loop().time() + seconds < end


async def _ask(tool: Tool, arguments: Mapping[str, Any], slot: Slot) -> ToolOutput:
    """One attempt. Raises CallFailed."""
    match tool.call:
        case LocalCall(path):
            return ToolOutput(await local.call(path, arguments, slot))
        case HttpCall():
            return ToolOutput(await http.call(tool.call, arguments, tool.parameters, tool.max_output_bytes))
        case McpCall(server, remote_name):
            from apps.tools.mcp import calling  # type: ignore[import-not-found,unused-ignore]  # comes with MCP

            seconds = tool.timeout * _EARLIER
            output: ToolOutput = await calling.call(server, remote_name, dict(arguments), timeout=seconds)
            return output


def _cut(text: str, most: int) -> str:
    encoded = text.encode(errors="replace")
    if len(encoded) <= most:
        return text
    remark = f"\n[Cut here: the gateway gives at most {most} bytes.]"
    return encoded[: most - len(remark)].decode(errors="ignore") + remark


def _error(tool: Tool, sentence: str) -> ToolOutput:
    return ToolOutput(_cut(sentence, tool.max_output_bytes), is_error=True)


# --- what stays of it ------------------------------------------------------------------------------------------------

_names: set[str] = set()


def _note(tool: Tool, outcome: str, seconds: float) -> None:
    if len(_names) < _MOST_NAMES:
        _names.add(tool.name)
    name = tool.name if tool.name in _names else "other"
    _CALLS.labels(name, tool.kind.value, outcome).inc()
    _SECONDS.labels(name, tool.kind.value).observe(seconds)
    log.log(
        logging.INFO if outcome in ("ok", "cached", "cancelled") else logging.WARNING,
        "tool_called",
        tool=tool.name,
        kind=tool.kind.value,
        source=tool.source,
        outcome=outcome,
        ms=round(seconds * 1000, 1),
    )
