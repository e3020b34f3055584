"""A request → what is to be run for it: an order for a module's agent, a declared agent, or a model as it is."""

from collections.abc import Mapping
from typing import Any

from apps.access.subject import Subject
from apps.catalog.declared import Declared
from apps.catalog.pass_through import PassThrough
from apps.catalog.registry import Entry, Generation
from apps.core.ids import new_ordered_id
from apps.execution.approvals import Resumption, asker, take
from apps.execution.open_turns import restored
from apps.execution.order import DeclaredOrder, ModuleOrder, Order, PassOrder
from apps.openai_api.approvals import decision_in
from apps.openai_api.conversation import chat_messages, last_user_text, run_input
from apps.openai_api.parameters import chosen, model_settings, refuse_what_cannot_be_honoured
from apps.openai_api.schemas import ChatCompletionRequest
from apps.upstreams.raw_answers import CHAT, COMPLETIONS, EMBEDDINGS

_IDS = {CHAT: "chatcmpl-", COMPLETIONS: "cmpl-", EMBEDDINGS: "embd-"}  # as OpenAI's begin


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
    if isinstance(serves, Declared):
        return await _declared_order(entry, serves, subject, request)
    return pass_order(entry, serves, subject, CHAT, sent)


def pass_order(entry: Entry, model: PassThrough, subject: Subject, path: str, sent: Mapping[str, Any]) -> PassOrder:
    return PassOrder(
        agent_id=entry.agent_id,
        run_id=new_ordered_id(_IDS[path]),
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


async def _declared_order(
    entry: Entry, declared: Declared, subject: Subject, request: ChatCompletionRequest
) -> DeclaredOrder:
    refuse_what_cannot_be_honoured(request, takes_tools=True)
    messages = chat_messages(request.messages)
    resumption = await _resumption(entry, declared.digest, subject, request)
    return DeclaredOrder(
        agent_id=entry.agent_id,
        digest=declared.digest,
        options=entry.options,
        declared=declared,
        messages=await restored(messages, asker(subject, entry.agent_id, declared.digest)),
        parameters=chosen(request),
        client_tools=request.tools or (),
        tool_choice=request.tool_choice,
        streamed=bool(request.stream),
        resumption=resumption,
        subject=subject,
    )


async def _resumption(entry: Entry, digest: str, subject: Subject, request: ChatCompletionRequest) -> Resumption | None:
    if decision := decision_in(request.messages):
        return await take(decision, asker(subject, entry.agent_id, digest))
    return None
