"""A request → what is to be run for it: an order for a module's agent, a declared agent, or a model as it is."""

from collections.abc import Mapping
from typing import Any

from apps.access.subject import Subject
from apps.catalog.declared import Declared
from apps.catalog.pass_through import PassThrough
from apps.catalog.registry import Entry, Generation
from apps.core.errors import AgentUnavailable
from apps.execution.approvals import Resumption, asker, take
from apps.execution.order import ModuleOrder, Order, PassOrder
from apps.openai_api.approvals import decision_in
from apps.openai_api.conversation import last_user_text, run_input
from apps.openai_api.parameters import model_settings
from apps.openai_api.schemas import ChatCompletionRequest
from apps.upstreams.raw_answers import CHAT


async def order_for(
    entry: Entry,
    serves: Generation | Declared | PassThrough,
    subject: Subject,
    request: ChatCompletionRequest,
    sent: Mapping[str, Any],  # the request as it came, for who hands it on
) -> Order:
    """Raises InvalidRequest, and ApprovalClosed when the last message decides about a run that waits no longer."""
    if isinstance(serves, Generation):
        return await _module_order(entry, serves, subject, request)
    if isinstance(serves, PassThrough):
        return pass_order(entry, serves, subject, CHAT, sent)
    raise AgentUnavailable(f"'{entry.agent_id}' cannot be run yet.")


def pass_order(entry: Entry, model: PassThrough, subject: Subject, path: str, sent: Mapping[str, Any]) -> PassOrder:
    return PassOrder(
        agent_id=entry.agent_id,
        options=entry.options,
        upstream=model.upstream,
        model=model.model,
        path=path,
        body=sent,
        streamed=bool(sent.get("stream")),
        subject=subject,
    )


async def _module_order(
    entry: Entry, generation: Generation, subject: Subject, request: ChatCompletionRequest
) -> ModuleOrder:
    return ModuleOrder(
        agent_id=entry.agent_id,
        digest=generation.digest,
        options=entry.options,
        generation=generation,
        input=run_input(request.messages),
        prompt=last_user_text(request.messages),
        model_settings=model_settings(request),
        resumption=await _resumption(entry, generation.digest, subject, request),
        subject=subject,
    )


async def _resumption(entry: Entry, digest: str, subject: Subject, request: ChatCompletionRequest) -> Resumption | None:
    if decision := decision_in(request.messages):
        return await take(decision, asker(subject, entry.agent_id, digest))
    return None
