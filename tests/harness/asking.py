"""One question, asked whole or streamed through the official client, read into the same shape."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import openai


@dataclass(frozen=True)
class Told:
    """What a client was told. `usage` is (prompt, completion) tokens."""

    content: str
    finish_reason: str | None
    usage: tuple[int, int]
    refusal: str | None = None
    reasoning: str = ""


Ask = Callable[..., Told]


def messages_of(asked: Any) -> list[Any]:
    return [{"role": "user", "content": asked}] if isinstance(asked, str) else asked


def ask_whole(client: openai.OpenAI, model: str, asked: Any, **options: Any) -> Told:
    answer = client.chat.completions.create(model=model, messages=messages_of(asked), **options)
    (choice,) = answer.choices
    assert choice.message.tool_calls is None
    assert answer.usage is not None
    return Told(
        content=choice.message.content or "",
        finish_reason=choice.finish_reason,
        usage=(answer.usage.prompt_tokens, answer.usage.completion_tokens),
        refusal=choice.message.refusal,
        reasoning=getattr(choice.message, "reasoning_content", None) or "",
    )


def ask_streamed(client: openai.OpenAI, model: str, asked: Any, **options: Any) -> Told:
    chunks = read_stream(client, model, asked, **options)
    usage = chunks[-1].usage
    assert usage is not None
    refusals = [piece for piece in deltas(chunks, "refusal") if piece]
    (finish_reason,) = [choice.finish_reason for one in chunks for choice in one.choices if choice.finish_reason]
    return Told(
        content="".join(deltas(chunks, "content")),
        finish_reason=finish_reason,
        usage=(usage.prompt_tokens, usage.completion_tokens),
        refusal="".join(refusals) if refusals else None,
        reasoning="".join(deltas(chunks, "reasoning_content")),
    )


def read_stream(client: openai.OpenAI, model: str, asked: Any, **options: Any) -> list[Any]:
    """The chunks of a streamed answer, usage included."""
    options.setdefault("stream_options", {"include_usage": True})
    stream = client.chat.completions.create(model=model, messages=messages_of(asked), stream=True, **options)
    return list(stream)


def deltas(chunks: list[Any], name: str) -> list[Any]:
    """The values of one member of all deltas, where they have it."""
    found = [getattr(choice.delta, name, None) for one in chunks for choice in one.choices]
    return [value for value in found if value is not None]
