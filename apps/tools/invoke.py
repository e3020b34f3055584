"""Calling a tool of the gateway: bounded in time, number and size, repeated only where that is safe.

Whether the caller may is asked before, in execution/tool_calls.py, which every kind of tool passes and which tells the
metrics and the log of the call.
"""

import asyncio
import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import structlog

from apps.tools import http, local
from apps.tools.answers import answers
from apps.tools.arguments import canonical, check, parse
from apps.tools.lanes import Lane, Slot, lane_of
from apps.tools.tool import CallFailed, HttpCall, LocalCall, McpCall, Tool, ToolOutput

log = structlog.get_logger(__name__)

_FIRST_PAUSE: Final = 0.2  # seconds before the second attempt, twice as long before each further one
_LONGEST_PAUSE: Final = 5.0
_EARLIER: Final = 0.98  # of its time-out is left to a server's own, which knows better what to tell


async def invoke(tool: Tool, arguments: str) -> ToolOutput:
    """Call it with the JSON text that a model wrote. Raises nothing but CancelledError: what goes wrong is told to the
    model, in a sentence that says what to do."""
    try:
        lane = lane_of(tool)
        return await _called(lane, parse(arguments))
    except CallFailed as failed:
        what = "was not called" if failed.outcome == "invalid_arguments" else "failed"
        return _error(tool, f"The tool '{tool.name}' {what}: {failed.message}", failed.outcome)
    except Exception:  # whatever it is, the run goes on
        log.exception("tool_crashed", tool=tool.name, kind=tool.kind.value)
        return _error(tool, f"The tool '{tool.name}' failed unexpectedly. Go on without it.", "crashed")


async def _called(lane: Lane, arguments: dict[str, Any]) -> ToolOutput:
    tool = lane.tool
    check(arguments, lane.validator)
    if not tool.cache_seconds:
        return await _bounded(lane, arguments)
    key = canonical(arguments)
    if (kept := answers().find(tool, key)) is not None:
        return replace(kept, outcome="cached")
    output, is_first = await answers().make(tool, key, lambda: _bounded(lane, arguments))
    return output if is_first else replace(output, outcome="cached")


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
    return replace(output, text=_cut(lane.redacted(output.text), tool.max_output_bytes))


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
            from apps.tools.mcp import calling  # loads the package mcp, which commands can do without

            return await calling.call(server, remote_name, dict(arguments), timeout=tool.timeout * _EARLIER)


def _cut(text: str, most: int) -> str:
    """Such as JSON can carry: half of a pair of surrogates, which servers make that cut texts, becomes `?`."""
    encoded = text.encode(errors="replace")
    if len(encoded) <= most:
        return text if text.isascii() else encoded.decode()
    remark = f"\n[Cut here: the gateway gives at most {most} bytes.]"
    return encoded[: most - len(remark)].decode(errors="ignore") + remark


def _error(tool: Tool, sentence: str, outcome: str) -> ToolOutput:
    return ToolOutput(_cut(sentence, tool.max_output_bytes), is_error=True, outcome=outcome)
