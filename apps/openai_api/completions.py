"""Completions of texts, and embeddings: endpoints that only the models of upstreams have, passed through as they are.

The path is the chat's (pipeline.py) with another order and another shape.
"""

from django.http import HttpResponseBase

from apps.access.subject import Subject
from apps.catalog.pass_through import PassThrough
from apps.core.errors import InvalidRequest
from apps.core.loop_handler import LoopRequest
from apps.execution.order import Order
from apps.openai_api import pipeline, shapes
from apps.openai_api.completion_schemas import CompletionRequest, EmbeddingRequest
from apps.openai_api.orders import pass_order
from apps.upstreams.raw_answers import COMPLETIONS, EMBEDDINGS


async def complete(request: LoopRequest, subject: Subject, body: CompletionRequest) -> HttpResponseBase:
    """Answer a completion of a text. Raises GatewayError, InvalidRequest for agents."""
    return await _passed(request, subject, body.model, COMPLETIONS, shapes.COMPLETION)


async def embed(request: LoopRequest, subject: Subject, body: EmbeddingRequest) -> HttpResponseBase:
    """Answer with embeddings. Raises GatewayError, InvalidRequest for agents."""
    return await _passed(request, subject, body.model, EMBEDDINGS, shapes.EMBEDDINGS)


async def _passed(
    request: LoopRequest, subject: Subject, model: str, path: str, shape: shapes.Shape
) -> HttpResponseBase:
    entry, decision = pipeline.permitted(subject, model)
    serves = pipeline.serving(entry)
    if not isinstance(serves, PassThrough):
        raise InvalidRequest(
            f"'{entry.agent_id}' is an agent, and agents answer at /v1/chat/completions; /v1{path} takes the models of "
            "upstreams.",
            param="model",
            code="agent_needs_chat",
        )
    order = pass_order(entry, serves, subject, path, request.document)

    async def making() -> Order:
        return order

    return await pipeline.answer(request, subject, entry, decision, making, shape, streamed=order.streamed)
