"""Parameters of a chat completion, in OpenAI's words → the fields of the SDK's ModelSettings: one mapping for those of
a request and for those that operators set."""

from collections.abc import Mapping
from typing import Any, Final

from openai.types.shared import Reasoning

_FIELDS: Final = frozenset(
    {
        "temperature",
        "top_p",
        "frequency_penalty",
        "presence_penalty",
        "parallel_tool_calls",
        "verbosity",
        "metadata",
    }
)


def model_settings(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """What is None is left out; what the SDK has no field for goes to the server in `extra_body`."""
    settings: dict[str, Any] = {}
    body: dict[str, Any] = {}
    for name, value in parameters.items():
        if value is None:
            continue
        if name in _FIELDS:
            settings[name] = value
        elif name == "reasoning_effort":
            settings["reasoning"] = Reasoning.model_construct(effort=value)  # a server's own words pass
        elif name not in ("max_tokens", "max_completion_tokens"):
            body[name] = value
    if (most := parameters.get("max_completion_tokens") or parameters.get("max_tokens")) is not None:
        settings["max_tokens"] = most
    return {**settings, "extra_body": body} if body else settings


def with_defaults(own: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Both in the SDK's words; where both say something, `own` counts."""
    body = {**defaults.get("extra_body", {}), **own.get("extra_body", {})}
    return {**defaults, **own, **({"extra_body": body} if body else {})}
