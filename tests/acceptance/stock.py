"""A module under the SDK's own Runner, as its author would run it: the yardstick of this suite.

Runs in a process of its own, forked from one that has imported the SDK and nothing of the gateway (stock_warmed.py).
Nothing here may import Django or the gateway.
"""

import asyncio
import importlib
import inspect
import json
import os
import sys
from dataclasses import asdict, dataclass, is_dataclass
from typing import Any

import agents
import openai.resources.chat.completions  # forked processes find it imported  # noqa: F401
from agents import Agent, ItemHelpers, Runner
from agents.items import MessageOutputItem
from pydantic import BaseModel


@dataclass(frozen=True)
class Ran:
    """How a run under Runner ended. `content` is every message's text, a blank line between two, as a stream shows it;
    else the final output. `error` is the exception's class."""

    content: str = ""
    final_output: Any = None
    last_agent: str = ""
    items: tuple[str, ...] = ()
    error: str = ""
    message: str = ""


def run_module(folder: str, variable: str, asked: Any, context: str, base_url: str) -> Ran:
    """Imports agent.py as Python does beside the file, and runs what `variable` names."""
    os.environ.update(OPENAI_API_KEY="sk-of-the-author", OPENAI_BASE_URL=base_url)
    asyncio.set_event_loop_policy(None)  # as before the first asyncio.run()
    os.chdir(folder)
    sys.path.insert(0, folder)
    agents.set_default_openai_api("chat_completions")  # a server without the Responses API
    module = importlib.import_module("agent")
    try:
        return asyncio.run(_run(getattr(module, variable), asked, getattr(module, context)() if context else None))
    except Exception as error:  # noqa: BLE001  # how the run ended is what the test asks
        return Ran(error=type(error).__name__, message=str(error))


async def _run(entry: Any, asked: Any, context: Any) -> Ran:
    if not isinstance(entry, Agent):
        answer = await entry(*_workflow_arguments(entry, asked))
        return Ran(content=_text(answer), final_output=_plain(answer))
    result = await Runner.run(entry, asked, context=context)
    messages = [ItemHelpers.text_message_output(item) for item in result.new_items if type(item) is MessageOutputItem]
    return Ran(
        content="\n\n".join(filter(None, messages)) or _text(result.final_output),
        final_output=_plain(result.final_output),
        last_agent=result.last_agent.name,
        items=tuple(item.type for item in result.new_items),
    )


def _workflow_arguments(workflow: Any, asked: str) -> list[Any]:
    (first, *_) = inspect.signature(workflow).parameters
    annotation = workflow.__annotations__.get(first, str)
    is_input = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    return [annotation(input_as_text=asked) if is_input else asked]


def _text(value: Any) -> str:
    """What is no text is told as JSON; of what an Agent Builder workflow returns, its text."""
    if isinstance(value, dict) and "output_text" in value:
        value = value["output_text"]
    if isinstance(value, str):
        return value
    return value.model_dump_json() if isinstance(value, BaseModel) else json.dumps(_plain(value), ensure_ascii=False)


def _plain(value: Any) -> Any:
    """Values of the module's own classes do not pass between processes."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return [_plain(one) for one in value] if isinstance(value, list) else value
