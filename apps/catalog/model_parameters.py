"""The parameters of a chat completion that operators may set for an agent: OpenAI's names, and what they may be.

https://platform.openai.com/docs/api-reference/chat/create. What has a field of its own (tools, tool_choice,
parallel_tool_calls, response_format), or belongs to a request (messages, stream, n), is none of them.
"""

import difflib
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

_Number = Annotated[float, Field(strict=True)]
_Count = Annotated[int, Field(strict=True, ge=1)]


class Parameters(BaseModel):
    """`extra_body` is for what only some servers know, such as top_k: its members are sent beside the others."""

    model_config = ConfigDict(extra="forbid")

    temperature: Annotated[_Number, Field(ge=0, le=2)] | None = None
    top_p: Annotated[_Number, Field(ge=0, le=1)] | None = None
    frequency_penalty: Annotated[_Number, Field(ge=-2, le=2)] | None = None
    presence_penalty: Annotated[_Number, Field(ge=-2, le=2)] | None = None
    max_tokens: _Count | None = None
    max_completion_tokens: _Count | None = None
    reasoning_effort: str | None = None
    verbosity: Literal["low", "medium", "high"] | None = None
    seed: Annotated[int, Field(strict=True)] | None = None
    stop: str | Annotated[list[str], Field(max_length=4)] | None = None
    logit_bias: dict[str, float] | None = None
    metadata: dict[str, str] | None = None
    user: str | None = None
    service_tier: str | None = None
    store: bool | None = None
    prompt_cache_key: str | None = None
    safety_identifier: str | None = None
    extra_body: dict[str, Any] | None = None


_OF_THEIR_OWN = {"tools", "tool_choice", "parallel_tool_calls", "response_format", "model"}
_OF_REQUESTS = {"messages", "stream", "stream_options", "n", "logprobs", "top_logprobs", "modalities", "audio"}


def mistakes(parameters: object) -> list[str]:
    """A sentence for each."""
    if not isinstance(parameters, dict):
        return ['Parameters are a JSON object: {"temperature": 0.2}.']
    try:
        Parameters.model_validate(parameters)
    except ValidationError as error:
        return list(dict.fromkeys(_sentences(error)))
    extra = parameters.get("extra_body") or {}
    return [f"'{name}' in extra_body is set by the gateway." for name in sorted(extra) if name in _SET_BY_GATEWAY]


_SET_BY_GATEWAY = _OF_THEIR_OWN | _OF_REQUESTS


def _sentences(error: ValidationError) -> Iterator[str]:
    for one in error.errors():
        name = str(one["loc"][0])
        if one["type"] == "extra_forbidden":
            yield _unknown(name)
        else:
            yield f"'{name}' cannot be {one['input']!r}: {one['msg'][0].lower()}{one['msg'][1:]}."


def _unknown(name: str) -> str:
    if name in _OF_THEIR_OWN:
        return f"'{name}' is no parameter here: it has a field of its own."
    if name in _OF_REQUESTS:
        return f"'{name}' belongs to a request, and cannot be set for an agent."
    near = difflib.get_close_matches(name, Parameters.model_fields, n=1, cutoff=0.7)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    return f"'{name}' is no parameter of OpenAI's.{hint} What only your server knows goes into extra_body."
