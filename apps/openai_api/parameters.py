"""A request's parameters → what the SDK and the upstream are asked for. What cannot be honoured is refused by name."""

from typing import Any

from apps.core.errors import InvalidRequest
from apps.execution import model_settings as mapping
from apps.openai_api.schemas import ChatCompletionRequest

_HONOURED = (
    "temperature",
    "top_p",
    "frequency_penalty",
    "presence_penalty",
    "parallel_tool_calls",
    "verbosity",
    "metadata",
    "max_tokens",
    "max_completion_tokens",
    "reasoning_effort",
    "stop",
    "seed",
    "logit_bias",
    "response_format",
)


_REFUSED = frozenset(  # at some values
    {
        "n", "logprobs", "top_logprobs", "modalities", "audio", "functions", "function_call", "web_search_options",
        "tool_choice",
    }
)  # fmt: skip


def refuse_what_cannot_be_honoured(request: ChatCompletionRequest, *, takes_tools: bool = False) -> None:
    """Raises InvalidRequest that names the first such parameter. `takes_tools`: the agent calls those of the client."""
    if request.model_fields_set.isdisjoint(_REFUSED):
        return
    refusals: list[tuple[str, bool, str]] = [
        ("n", (request.n or 1) != 1, "an agent gives one answer to a request; send several requests instead"),
        ("logprobs", bool(request.logprobs), "agents do not report log probabilities"),
        ("top_logprobs", bool(request.top_logprobs), "agents do not report log probabilities"),
        ("modalities", bool(set(request.modalities or ()) - {"text"}), "agents answer in text"),
        ("audio", request.audio is not None, "agents answer in text"),
        ("functions", bool(request.functions), "it was replaced by tools, and agents bring their own"),
        ("function_call", request.function_call not in (None, "none", "auto"), "agents choose among their own tools"),
        ("web_search_options", request.web_search_options is not None, "agents bring their own tools"),
        (
            "tool_choice",
            not takes_tools and request.tool_choice not in (None, "none", "auto"),
            "agents choose among their own tools",
        ),
    ]
    for name, asked, why in refusals:
        if asked:
            raise InvalidRequest(f"'{name}' is not supported: {why}.", param=name, code="unsupported_parameter")


def chosen(request: ChatCompletionRequest) -> dict[str, Any]:
    """What the request sets, in OpenAI's words; the most tokens by one of their two names."""
    given = request.model_fields_set
    asked = {name: value for name in _HONOURED if name in given and (value := getattr(request, name)) is not None}
    if (most := asked.pop("max_completion_tokens", None) or asked.get("max_tokens")) is not None:
        asked["max_tokens"] = most
    if isinstance(request.user, str):
        asked["user"] = request.user
    return asked


def model_settings(request: ChatCompletionRequest) -> dict[str, Any]:
    """The fields of the SDK's ModelSettings that the request sets. They override the agent's own for this run."""
    asked = {name: getattr(request, name) for name in _HONOURED}
    return mapping.model_settings({**asked, "user": request.user if isinstance(request.user, str) else None})


def ignored(request: ChatCompletionRequest) -> list[str]:
    """Parameters that are accepted and have no effect; told in the header `x-gateway-ignored`.

    Chat UIs offer their own tools in every request (Open WebUI: 36); an agent has its own and is not offered these.
    """
    return ["tools"] if request.tools else []
