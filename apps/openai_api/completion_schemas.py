"""What /v1/completions and /v1/embeddings take and give, in OpenAI's own words.

https://platform.openai.com/docs/api-reference/completions/create and .../embeddings/create. Requests go to the server
as they are, with members that are not listed here; answers come as the server gives them.
"""

from typing import Annotated, Any, Literal

from ninja import Schema
from pydantic import ConfigDict, Field

from apps.openai_api.schemas import Loose, StreamOptions

Tokens = list[int]
_MODEL = Field(min_length=1, max_length=300)


class CompletionRequest(Loose):
    """A text to go on with, and the model of an upstream that shall do it."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"model": "ollama/qwen3:8b", "prompt": "Once upon a time", "max_tokens": 60, "stop": ["\n"]}]
        }
    )

    model: str = _MODEL
    prompt: str | list[str] | Tokens | list[Tokens]
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(None, ge=0)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, ge=0, le=1)
    n: int | None = Field(None, ge=1)
    stop: str | list[str] | None = None
    logprobs: int | None = None
    echo: bool | None = None
    suffix: str | None = None
    seed: int | None = None


class TextChoice(Schema):
    index: int
    text: str
    logprobs: dict[str, Any] | None = None
    finish_reason: str


class TokenUsage(Schema):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Completion(Schema):
    """The whole answer. With `stream: true` it comes as server-sent events of the same shape instead."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "cmpl-214b8f0c3d5e",
                    "object": "text_completion",
                    "created": 1795651200,
                    "model": "qwen3:8b",
                    "choices": [{"index": 0, "text": " there was a printer.", "finish_reason": "stop"}],
                    "usage": {"prompt_tokens": 4, "completion_tokens": 5, "total_tokens": 9},
                }
            ]
        }
    )

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[TextChoice]
    usage: TokenUsage


class EmbeddingRequest(Loose):
    """Texts, and the model of an upstream that shall turn them into vectors."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"model": "ollama/nomic-embed-text", "input": ["A text", "Another one"]}]}
    )

    model: str = _MODEL
    input: str | Annotated[list[str] | Tokens | list[Tokens], Field(min_length=1)]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = Field(None, ge=1)


class Embedding(Schema):
    index: int
    object: Literal["embedding"]
    embedding: list[float] | str  # text with encoding_format base64


class EmbeddingUsage(Schema):
    prompt_tokens: int
    total_tokens: int


class EmbeddingList(Schema):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "object": "list",
                    "model": "nomic-embed-text",
                    "data": [
                        {"index": 0, "object": "embedding", "embedding": [0.021, -0.113, 0.407]},
                        {"index": 1, "object": "embedding", "embedding": [0.018, -0.092, 0.388]},
                    ],
                    "usage": {"prompt_tokens": 5, "total_tokens": 5},
                }
            ]
        }
    )

    object: Literal["list"]
    model: str
    data: list[Embedding]
    usage: EmbeddingUsage
