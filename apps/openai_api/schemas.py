"""What /v1 takes and gives, in OpenAI's own words.

https://platform.openai.com/docs/api-reference/chat/create, as the official clients of November 2026 send it. Members
that are not listed are accepted and ignored; those that cannot be honoured are refused in `parameters.py`.
"""

from typing import Annotated, Any, Literal

from ninja import Schema
from pydantic import BaseModel, ConfigDict, Field


class Loose(BaseModel):
    """Clients add members of their own (`name`, `annotations`, cache hints); they are no reason to refuse."""

    model_config = ConfigDict(extra="ignore")


class TextPart(Loose):
    type: Literal["text"]
    text: str


class RefusalPart(Loose):
    type: Literal["refusal"]
    refusal: str


class ImageUrl(Loose):
    url: str
    detail: Literal["auto", "low", "high"] | None = None


class ImagePart(Loose):
    type: Literal["image_url"]
    image_url: ImageUrl


class InputAudio(Loose):
    data: str
    format: str


class AudioPart(Loose):
    type: Literal["input_audio"]
    input_audio: InputAudio


class FileContent(Loose):
    file_data: str | None = None
    file_id: str | None = None
    filename: str | None = None


class FilePart(Loose):
    type: Literal["file"]
    file: FileContent


UserPart = Annotated[TextPart | ImagePart | AudioPart | FilePart, Field(discriminator="type")]
AssistantPart = Annotated[TextPart | RefusalPart, Field(discriminator="type")]


class FunctionCall(Loose):
    name: str
    arguments: str | None = "{}"


class ToolCall(Loose):
    id: str
    type: Literal["function"] = "function"
    function: FunctionCall


class SystemMessage(Loose):
    role: Literal["system"]
    content: str | list[TextPart]


class DeveloperMessage(Loose):
    role: Literal["developer"]
    content: str | list[TextPart]


class UserMessage(Loose):
    role: Literal["user"]
    content: str | list[UserPart] | None = None


class AssistantMessage(Loose):
    role: Literal["assistant"]
    content: str | list[AssistantPart] | None = None
    refusal: str | None = None
    tool_calls: list[ToolCall] | None = None


class ToolMessage(Loose):
    role: Literal["tool"]
    tool_call_id: str
    content: str | list[TextPart] | None = None


Message = Annotated[
    SystemMessage | DeveloperMessage | UserMessage | AssistantMessage | ToolMessage, Field(discriminator="role")
]


class StreamOptions(Loose):
    include_usage: bool | None = None


class ChatCompletionRequest(Loose):
    """A conversation and the agent that shall answer it."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"model": "default/sampleagent", "messages": [{"role": "user", "content": "Hello"}]},
                {
                    "model": "default/sampleagent",
                    "messages": [
                        {"role": "system", "content": "Answer in one sentence."},
                        {"role": "user", "content": "What is an agent?"},
                    ],
                    "stream": True,
                    "stream_options": {"include_usage": True},
                    "temperature": 0.2,
                },
            ]
        }
    )

    model: str = Field(min_length=1, max_length=300)
    messages: list[Message] = Field(min_length=1, max_length=10_000)
    stream: bool | None = False
    stream_options: StreamOptions | None = None

    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, ge=0, le=1)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    parallel_tool_calls: bool | None = None
    reasoning_effort: str | None = None
    verbosity: Literal["low", "medium", "high"] | None = None
    metadata: dict[str, str] | None = None

    stop: str | list[str] | None = None
    seed: int | None = None
    logit_bias: dict[str, float] | None = None
    response_format: dict[str, Any] | None = None
    user: Any = None  # Open WebUI sends an object in one of its modes

    n: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    modalities: list[str] | None = None
    audio: dict[str, Any] | None = None
    functions: list[Any] | None = None
    function_call: Any = None
    web_search_options: dict[str, Any] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: Any = None


class TokenDetails(Schema):
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None


class CompletionUsage(Schema):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: TokenDetails
    completion_tokens_details: TokenDetails


class AnswerMessage(Schema):
    role: Literal["assistant"]
    content: str | None
    refusal: str | None
    reasoning_content: str | None = None
    tool_calls: list[ToolCall] | None = None  # of tools that the request brought


class AnswerChoice(Schema):
    index: int
    message: AnswerMessage
    finish_reason: Literal["stop", "length", "content_filter", "tool_calls"]


class ChatCompletion(Schema):
    """The whole answer. With `stream: true` it comes as server-sent `chat.completion.chunk` objects instead."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "chatcmpl-5c1f0b9a7e3d4f2a8b6c90d1e2f3a4b5",
                    "object": "chat.completion",
                    "created": 1795651200,
                    "model": "default/sampleagent",
                    "choices": [
                        {
                            "index": 0,
                            "message": {"role": "assistant", "content": "Hello! What can I do?", "refusal": None},
                            "finish_reason": "stop",
                        }
                    ],
                    "usage": {
                        "prompt_tokens": 21,
                        "completion_tokens": 7,
                        "total_tokens": 28,
                        "prompt_tokens_details": {"cached_tokens": 0},
                        "completion_tokens_details": {"reasoning_tokens": 0},
                    },
                }
            ]
        }
    )

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[AnswerChoice]
    usage: CompletionUsage


class Model(Schema):
    """An agent, as chat UIs show it: `name` instead of the id, `info.meta` for the description."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "default/sampleagent",
                    "object": "model",
                    "created": 1795651200,
                    "owned_by": "agent-gateway",
                    "name": "Sample agent",
                    "description": "Answers, and tells the time.",
                    "info": {"meta": {"description": "Answers, and tells the time."}},
                }
            ]
        }
    )

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    name: str
    description: str
    info: dict[str, Any]


class ModelList(Schema):
    object: Literal["list"]
    data: list[Model]


class ErrorDetail(Schema):
    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(Schema):
    """What every refusal and failure looks like; docs/errors.md lists the codes."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "error": {
                        "message": "The API key lacks the scope 'admin'.",
                        "type": "permission_error",
                        "param": None,
                        "code": "access_denied",
                    }
                }
            ]
        }
    )

    error: ErrorDetail
