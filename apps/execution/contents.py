"""Prompts and answers in the log, where an operator turned that on (GATEWAY_LOG_CONTENTS): redacted, and cut."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Final

import msgspec
import structlog

from apps.core.redaction import redacted
from apps.execution.events import Forwarded, RefusalDelta, RunEvent, TextDelta, ToolFinished, ToolStarted
from apps.execution.order import DeclaredOrder, ModuleOrder, Order, PassOrder
from apps.observability.plain import cut, plain

LONGEST: Final = 4_000  # characters

log = structlog.get_logger(__name__)


async def told(events: AsyncGenerator[RunEvent, None], order: Order) -> AsyncGenerator[RunEvent, None]:
    """The same events. At the end a line `run_contents`, and for each tool call that the run tells `tool_contents`."""
    output: list[str] = []
    calls: dict[str, ToolStarted] = {}
    try:
        async with aclosing(events):
            async for event in events:
                match event:
                    case TextDelta() | RefusalDelta():
                        output.append(event.text)
                    case Forwarded():
                        output += [_raw(one) for one in event.objects]
                    case ToolStarted():
                        calls[event.call_id] = event
                    case ToolFinished():
                        _tell_of_call(calls.pop(event.call_id, None), event)
                yield event
    finally:
        log.info("run_contents", run_id=order.run_id, input=shown(_input(order)), output=shown("".join(output)))


def _tell_of_call(started: ToolStarted | None, finished: ToolFinished) -> None:
    name, arguments = (started.name, started.arguments) if started else ("", "")
    log.info("tool_contents", tool=name, input=shown(arguments), output=shown(finished.output))


def shown(value: Any) -> Any:
    """As it may stand in the log."""
    text = value if isinstance(value, str) else msgspec.json.encode(plain(value, longest=LONGEST)).decode()
    return cut(redacted(text[: LONGEST * 2]), LONGEST)


def _input(order: Order) -> Any:
    match order:
        case ModuleOrder():
            return order.input
        case DeclaredOrder():
            return order.messages
        case PassOrder():
            return order.body.get("messages", order.body.get("prompt", order.body.get("input", "")))
    return ""


def _raw(members: dict[str, Any]) -> str:
    """The text of an answer, or a piece of it, whose members are raw JSON."""
    choices = members.get("choices")
    given = msgspec.json.decode(choices) if isinstance(choices, msgspec.Raw) else choices
    texts = []
    for choice in given if isinstance(given, list) else []:
        one = choice if isinstance(choice, dict) else {}
        said = one.get("delta") or one.get("message") or one
        text = said.get("content") or said.get("text") if isinstance(said, dict) else ""
        texts.append(text if isinstance(text, str) else "")
    return "".join(texts)
