"""The clients' door: OpenAI's endpoints under /v1. Each route parses, calls one verb, and presents."""

from collections.abc import Awaitable
from functools import partial
from typing import Annotated

from django.http import HttpRequest, HttpResponse, HttpResponseBase
from ninja import Router
from ninja.security.base import SecuritySchema

from apps.access.attempts import hold_back
from apps.access.authenticate import authenticate
from apps.access.authorise import authorise
from apps.access.decide import Action, Target
from apps.access.subject import Subject
from apps.core.errors import NotFound, Unauthenticated
from apps.core.json import encode
from apps.core.loop_handler import LoopRequest
from apps.openai_api import completions, pipeline
from apps.openai_api.completion_schemas import Completion, CompletionRequest, EmbeddingList, EmbeddingRequest
from apps.openai_api.json_body import JsonBody
from apps.openai_api.models_list import model_list, model_object
from apps.openai_api.schemas import ChatCompletion, ChatCompletionRequest, ErrorBody, Model, ModelList

REFUSALS = dict.fromkeys((400, 401, 403, 404, 413, 429, 502, 503, 504), ErrorBody)


async def _subject(request: HttpRequest) -> Subject:
    """Both spellings of a key, `Authorization: Bearer KEY` and `x-api-key: KEY`, through one code path."""
    try:
        return authenticate(request.META)
    except Unauthenticated as error:
        await hold_back(request.META, error)
        raise


class ApiKeyAuth(partial[Awaitable[Subject]]):
    """As ninja's own, which of an object finds out anew at each request whether it is to be awaited. Of a partial that
    is told at once."""

    openapi_security_schema = SecuritySchema(type="http", scheme="bearer")


router = Router(tags=["OpenAI-compatible API"], auth=ApiKeyAuth(_subject))


@router.post("/chat/completions", response={200: ChatCompletion, **REFUSALS}, summary="Chat with an agent")
async def create_chat_completion(
    request: LoopRequest, body: Annotated[ChatCompletionRequest, JsonBody(...)]
) -> HttpResponseBase:
    """Whole, or with `stream: true` as server-sent `chat.completion.chunk` events that end with `data: [DONE]`."""
    return await pipeline.chat(request, pipeline.caller(request), body)


@router.post("/completions", response={200: Completion, **REFUSALS}, summary="Go on with a text")
async def create_completion(
    request: LoopRequest, body: Annotated[CompletionRequest, JsonBody(...)]
) -> HttpResponseBase:
    """OpenAI's former endpoint, for models of upstreams that are offered as they are: `upstream/model`."""
    return await completions.complete(request, pipeline.caller(request), body)


@router.post("/embeddings", response={200: EmbeddingList, **REFUSALS}, summary="Turn texts into vectors")
async def create_embeddings(request: LoopRequest, body: Annotated[EmbeddingRequest, JsonBody(...)]) -> HttpResponseBase:
    """For models of upstreams that are offered as they are: `upstream/model`."""
    return await completions.embed(request, pipeline.caller(request), body)


@router.get("/models", response={200: ModelList, **REFUSALS}, summary="List the agents this key may use")
async def list_models(request: HttpRequest) -> HttpResponse:
    subject = pipeline.caller(request)
    authorise(subject, Action.LIST, Target())
    return HttpResponse(model_list(subject), content_type="application/json")


@router.get("/models/{path:model}", response={200: Model, **REFUSALS}, summary="One agent")
async def retrieve_model(request: HttpRequest, model: str) -> HttpResponse:
    """Agent ids contain a slash: `/v1/models/default/sampleagent`."""
    subject = pipeline.caller(request)
    entry = pipeline.resolve(subject, model)
    authorise(subject, Action.LIST, Target(entry.agent_id))
    pipeline.serving(entry)
    return HttpResponse(encode(model_object(entry)), content_type="application/json")


@router.api_operation(
    ["GET", "POST", "PUT", "PATCH", "DELETE"], "/{path:rest}", include_in_schema=False, url_name="v1_nothing_here"
)
async def nothing_here(request: HttpRequest, rest: str) -> HttpResponse:
    raise NotFound(
        f"There is no endpoint {request.method} /v1/{rest}. This gateway serves /v1/models, /v1/chat/completions, "
        "/v1/completions and /v1/embeddings; /docs describes them."
    )
