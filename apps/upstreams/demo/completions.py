"""The bodies that the API answers with: a stream's chunks, a whole completion, the list of models."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from apps.upstreams.demo.answer import Answer, answer_to
from apps.upstreams.demo.fields import Body, wants_usage
from apps.upstreams.demo.request import Request
from apps.upstreams.demo.tokens import pieces, usage_of
from apps.upstreams.demo.tool_choice import Call

MODEL = "demo"
CREATED = 1_763_596_800  # 2025-11-20: a clock would make two equal requests differ


def models() -> dict[str, Any]:
    """What `GET /v1/models` answers."""
    return {"object": "list", "data": [{"id": MODEL, "object": "model", "created": CREATED, "owned_by": "demo"}]}


def chunks(body: Body) -> Iterator[dict[str, Any]]:
    """The answer as `chat.completion.chunk` objects: the role, the words or calls, the finish_reason, and the usage
    with no choices when `stream_options.include_usage` asks for it. Raises DemoRequestError before the first chunk.
    """
    request = Request.from_body(body)
    return _stream(request, answer_to(request), with_usage=wants_usage(body))


def completion(body: Body) -> dict[str, Any]:
    """The same answer as one `chat.completion`, always with usage. Raises DemoRequestError."""
    request = Request.from_body(body)
    answer = answer_to(request)
    usage = _usage(request, answer, list(_deltas(answer)))
    choice = {"index": 0, "message": _message(answer), "logprobs": None, "finish_reason": answer.finish_reason}
    return _head(request, "chat.completion") | {"choices": [choice], "usage": usage}


def _stream(request: Request, answer: Answer, *, with_usage: bool) -> Iterator[dict[str, Any]]:
    head = _head(request, "chat.completion.chunk")
    usage = {"usage": None} if with_usage else {}

    def chunk(delta: Mapping[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return head | {"choices": [choice]} | usage

    deltas = list(_deltas(answer))
    yield chunk({"role": "assistant", "content": None if answer.calls else ""})
    yield from map(chunk, deltas)
    yield chunk({}, answer.finish_reason)
    if with_usage:
        yield head | {"choices": [], "usage": _usage(request, answer, deltas)}


def _head(request: Request, kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-demo-{request.digest}",
        "object": kind,
        "created": CREATED,
        "model": request.body.get("model") or MODEL,
        "system_fingerprint": "demo",
    }


def _usage(request: Request, answer: Answer, deltas: list[dict[str, Any]]) -> dict[str, Any]:
    reasoning_tokens = len(pieces(answer.reasoning))
    return usage_of(request.body, completion_tokens=len(deltas), reasoning_tokens=reasoning_tokens)


# --- the answer in one message ---------------------------------------------------------------------------------------


def _message(answer: Answer) -> dict[str, Any]:
    message = {"role": "assistant", "content": answer.content or None, "refusal": answer.refusal or None}
    reasoning = {"reasoning_content": answer.reasoning} if answer.reasoning else {}
    calls = {"tool_calls": [_call_object(call, call.arguments) for call in answer.calls]} if answer.calls else {}
    return message | reasoning | calls


def _call_object(call: Call, arguments: str) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}


# --- the answer in pieces --------------------------------------------------------------------------------------------


def _deltas(answer: Answer) -> Iterator[dict[str, Any]]:
    yield from ({"reasoning_content": piece} for piece in pieces(answer.reasoning))
    yield from ({"content": piece} for piece in pieces(answer.content))
    yield from ({"refusal": piece} for piece in pieces(answer.refusal))
    for index, call in enumerate(answer.calls):
        yield {"tool_calls": [{"index": index} | _call_object(call, "")]}
        for fragment in _fragments(call.arguments):
            yield {"tool_calls": [{"index": index, "function": {"arguments": fragment}}]}


def _fragments(arguments: str) -> Iterator[str]:
    step = max(1, math.ceil(len(arguments) / 4))
    return (arguments[start : start + step] for start in range(0, len(arguments), step))
