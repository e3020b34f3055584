"""What a server cannot take is changed before it is sent: pure functions over the request body.

The differences and where they were seen are listed in docs/upstreams.md.
"""

import re
from typing import Any

from apps.upstreams.models import Kind
from apps.upstreams.routing import Target

# OpenAI's reasoning models refuse max_tokens, https://platform.openai.com/docs/api-reference/chat/create
_WANTS_MAX_COMPLETION_TOKENS = re.compile(r"(o\d|gpt-[5-9])")
_OPENAI_ONLY = ("metadata", "store", "prompt_cache_retention", "prompt_cache_options", "prompt_cache_key")


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(part.get("text", "") for part in content or [] if isinstance(part, dict))


def _merge_system_messages(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One system message at the head: strict chat templates refuse a second one."""
    system = [message for message in messages if message["role"] in ("system", "developer")]
    if len(system) < 2 and (not system or messages[0] is system[0]):
        return messages
    merged = {"role": "system", "content": "\n\n".join(_text(message["content"]) for message in system)}
    return [merged, *(message for message in messages if message["role"] not in ("system", "developer"))]


def _without_strict(tools: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {**tool, "function": {name: value for name, value in tool["function"].items() if name != "strict"}}
        if isinstance(tool.get("function"), dict)
        else tool
        for tool in tools
    ]


def adapt(body: dict[str, Any], target: Target) -> dict[str, Any]:
    """The body as `target` takes it. Changes and returns `body`; the messages inside are not changed in place."""
    if not target.takes_developer_role:
        body["messages"] = [
            {**message, "role": "system"} if message["role"] == "developer" else message for message in body["messages"]
        ]
    if not target.takes_several_system_messages:
        body["messages"] = _merge_system_messages(body["messages"])
    if not target.takes_reasoning_effort:
        body.pop("reasoning_effort", None)
    if not target.takes_verbosity:
        body.pop("verbosity", None)
    if not target.takes_parallel_tool_calls:
        body.pop("parallel_tool_calls", None)
    if not target.takes_strict and body.get("tools"):
        body["tools"] = _without_strict(body["tools"])
    if target.kind == Kind.OPENAI:
        if "max_tokens" in body and _WANTS_MAX_COMPLETION_TOKENS.match(body["model"]):
            body["max_completion_tokens"] = body.pop("max_tokens")
    else:
        for name in _OPENAI_ONLY:
            body.pop(name, None)
    return body


def adapt_responses(body: dict[str, Any], target: Target) -> dict[str, Any]:
    """The same for a request to the Responses API, which has the parameters in other places."""
    if not target.takes_developer_role:
        body["input"] = [
            {**item, "role": "system"} if item.get("role") == "developer" else item for item in body["input"]
        ]
    if not target.takes_several_system_messages:
        _merge_into_instructions(body)
    if not target.takes_reasoning_effort:
        body.pop("reasoning", None)
    if not target.takes_verbosity and "verbosity" in body.get("text", {}):
        body["text"] = {name: value for name, value in body["text"].items() if name != "verbosity"}
    if not target.takes_parallel_tool_calls:
        body.pop("parallel_tool_calls", None)
    if not target.takes_strict and body.get("tools"):
        body["tools"] = [{name: value for name, value in tool.items() if name != "strict"} for tool in body["tools"]]
    return body


def _merge_into_instructions(body: dict[str, Any]) -> None:
    texts = [_text(item["content"]) for item in body["input"] if item.get("role") in ("system", "developer")]
    if texts:
        body["input"] = [item for item in body["input"] if item.get("role") not in ("system", "developer")]
        body["instructions"] = "\n\n".join(filter(None, [body.get("instructions"), *texts]))
