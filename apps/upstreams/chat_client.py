"""A chat client for the SDK's OpenAIChatCompletionsModel, at a quarter of the stock openai client's cost.

It has the few members that the model uses (`base_url`, `chat.completions.create`).
"""

from types import SimpleNamespace
from typing import Any
from uuid import uuid4

from openai import Omit
from openai.types.chat import ChatCompletion

from apps.core.errors import GatewayError
from apps.upstreams import road
from apps.upstreams.calls import current_calls
from apps.upstreams.chat_stream import ChunkStream, ToolCall
from apps.upstreams.routing import Route
from apps.upstreams.stock_client import as_openai, base_url, module_headers

_NOT_SENT = frozenset({"extra_headers", "extra_query", "extra_body", "timeout", "stream", "stream_options", "model"})


class Completions:
    """The client's `chat.completions`."""

    def __init__(self, route: Route) -> None:
        self._route = route

    async def create(self, **kwargs: Any) -> Any:
        """As the stock client's: a ChunkStream when `stream` is True, else a ChatCompletion.

        Whole answers are folded from the stream too: one road, one set of time-outs, and a cancelled run ends at once.
        Raises openai.APIStatusError, APIConnectionError or APITimeoutError, with the GatewayError as their cause.
        """
        headers, query = module_headers(kwargs), kwargs.get("extra_query") or {}
        try:
            opened = await road.open_chat(self._route, _body(kwargs), headers=headers, query=query)
        except GatewayError as error:
            raise as_openai(error, self._route.target) from error
        stream = ChunkStream(opened, current_calls.get(), error_of=as_openai)
        if kwargs.get("stream") is True:
            return stream
        try:
            return await _fold(stream, opened.call.model)
        finally:
            await stream.aclose()


class ChatClient:
    """Duck-typed `openai.AsyncOpenAI` for one route."""

    def __init__(self, route: Route) -> None:
        self.base_url = base_url(route.target.base_url)
        self.chat = SimpleNamespace(completions=Completions(route))


def _body(kwargs: dict[str, Any]) -> dict[str, Any]:
    body = {
        name: value
        for name, value in kwargs.items()
        if name not in _NOT_SENT and value is not None and not isinstance(value, Omit)
    }
    for name, value in (kwargs.get("extra_body") or {}).items():
        body.setdefault(name, value)  # what the agent itself asks for (its output type) stands
    body["stream"] = True
    body["stream_options"] = {"include_usage": True}
    return body


async def _fold(stream: ChunkStream, model: str) -> ChatCompletion:
    text: dict[str, list[str]] = {"content": [], "refusal": [], "reasoning_content": []}
    calls: dict[int, dict[str, Any]] = {}
    annotations: list[Any] = []
    finish_reason, usage = "stop", None
    async for chunk in stream:
        usage = chunk.usage or usage
        for choice in chunk.choices or ():
            finish_reason = choice.finish_reason or finish_reason
            if delta := choice.delta:
                text["content"].append(delta.content or "")
                text["refusal"].append(delta.refusal or "")
                text["reasoning_content"].append(delta.reasoning_content or delta.reasoning or "")
                annotations.extend(delta.annotations or ())
                _fold_tool_calls(calls, delta.tool_calls or [])
    message = {"role": "assistant", **{name: "".join(parts) or None for name, parts in text.items()}}
    if calls:
        message["tool_calls"] = [calls[index] for index in sorted(calls)]  # type: ignore[assignment]
    if annotations:
        message["annotations"] = annotations  # type: ignore[assignment]
    return ChatCompletion.construct(
        id=f"chatcmpl-{uuid4().hex}",
        object="chat.completion",
        created=0,
        model=model,
        choices=[{"index": 0, "message": message, "finish_reason": finish_reason, "logprobs": None}],
        usage=usage,
    )


def _fold_tool_calls(calls: dict[int, dict[str, Any]], deltas: list[ToolCall]) -> None:
    for delta in deltas:
        call = calls.setdefault(
            delta.index or 0, {"id": "", "type": "function", "function": {"name": "", "arguments": ""}}
        )
        call["id"] = delta.id or call["id"]
        if delta.function:
            call["function"]["name"] = delta.function.name or call["function"]["name"]
            call["function"]["arguments"] += delta.function.arguments or ""
