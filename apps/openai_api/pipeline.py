"""The path of a chat request, top to bottom: authenticate → resolve → authorise → admit → execute → stream → record.

Each word is one call. Streamed and whole answers read the same events; only the last step differs.
"""

import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from functools import partial
from time import perf_counter
from typing import Any

import structlog
from django.http import HttpRequest, HttpResponseBase

from apps.access.authorise import permit
from apps.access.decide import Action, Decision, Target, decide
from apps.access.limiting import Admission, admit
from apps.access.policy_in_force import policy_in_force
from apps.access.subject import Subject
from apps.catalog import registry
from apps.catalog.declared import Declared
from apps.catalog.models import DeclaredAgent
from apps.catalog.pass_through import PassThrough
from apps.catalog.registry import Entry, Generation
from apps.core.clock import now
from apps.core.errors import AgentUnavailable, GatewayError
from apps.core.loop_handler import Answer, EventStream, LoopRequest
from apps.execution import keeping, run_metrics
from apps.execution.events import ApprovalWanted, Finished, RunEvent, UnderWay
from apps.execution.execute import execute
from apps.execution.models import Outcome, Run
from apps.execution.order import Order
from apps.execution.run_failures import remember
from apps.execution.usage import usage_of
from apps.observability import context, feed, trace_context
from apps.observability.requests import leave_unlogged, request_id
from apps.observability.trace_context import Parent
from apps.openai_api import shapes
from apps.openai_api.draining import drained
from apps.openai_api.orders import order_for
from apps.openai_api.parameters import ignored, refuse_what_cannot_be_honoured
from apps.openai_api.schemas import ChatCompletionRequest
from apps.openai_api.shapes import Shape, Whole, Writer
from apps.upstreams.prices import cost

log = structlog.get_logger(__name__)

_CRASHED = "The gateway itself failed. Its log has the details under this request id."


async def chat(request: LoopRequest, subject: Subject, body: ChatCompletionRequest) -> HttpResponseBase:
    """Answer a chat completion. Raises GatewayError for whatever fails before the first event."""
    entry, decision = permitted(subject, body.model)
    serves = serving(entry)
    if isinstance(serves, Generation):
        refuse_what_cannot_be_honoured(body)
    with_usage = bool(body.stream_options and body.stream_options.include_usage)
    shape = shapes.CHAT if isinstance(serves, PassThrough) else shapes.of_agents(with_usage=with_usage)
    making = partial(order_for, entry, serves, subject, body, request.document)
    response = await answer(request, subject, entry, decision, making, shape, streamed=bool(body.stream))
    if isinstance(serves, Generation) and (names := ignored(body)):
        response.headers["x-gateway-ignored"] = ", ".join(names)
    return response


async def answer(
    request: LoopRequest,
    subject: Subject,
    entry: Entry,
    decision: Decision,
    making: Callable[[], Awaitable[Order]],
    shape: Shape,
    *,
    streamed: bool,
) -> HttpResponseBase:
    """Admit, execute what is made, stream and record: what all endpoints that run something have in common."""
    admission = await admit(subject, Target(entry.agent_id), decision)
    request.answer_headers = admission.headers
    try:
        order = await making()
    except BaseException:
        await admission.settle()  # there is no run that would
        raise
    parent = trace_context.begin(order.run_id, request.META)
    run = run_for(order, subject, streamed=streamed, parent=parent)
    request.cancel_when_client_leaves()
    events = record(execute(order), order, run, admission, parent)
    if order.options.drains:
        events = drained(events)
    if streamed:
        return await stream(events, shape.writer(id=run.id, model=entry.agent_id))
    return await whole(events, shape.whole(id=run.id, model=entry.agent_id))


def permitted(subject: Subject, model: str) -> tuple[Entry, Decision]:
    """What a model name means, and that this caller may use it, which is told when `admit` has looked at the limits.
    Raises ModelNotFound and AccessDenied."""
    entry = resolve(subject, model)
    context.bind(agent=entry.agent_id)
    return entry, permit(subject, Action.CHAT, Target(entry.agent_id))


def resolve(subject: Subject, model: str) -> Entry:
    """The agent that a model name means to this caller. Raises ModelNotFound."""

    def visible(agent_id: str) -> bool:  # asked of names that may mean several
        return decide(policy_in_force(), subject, Action.LIST, Target(agent_id), at=now()).allowed

    return registry.resolve(model, visible=visible)


def serving(entry: Entry) -> Generation | Declared | PassThrough:
    """What answers. Raises AgentUnavailable for an agent that is disabled, a draft, or does not load."""
    if not entry.enabled:
        is_draft = isinstance(entry.serves, Declared) and entry.serves.stage == DeclaredAgent.Stage.DRAFT
        why = "a draft: it answers once it is published" if is_draft else "disabled"
        raise AgentUnavailable(f"The agent '{entry.agent_id}' is {why}.", param="model", code="agent_disabled")
    if entry.serves is None:
        reason = next((one.reason for one in entry.problems if one.is_error), "no version of it loads.")
        raise AgentUnavailable(
            f"The agent '{entry.agent_id}' is broken: {reason} The admin says how to mend it.",
            param="model",
            code="agent_broken",
        )
    return entry.serves


def run_for(order: Order, subject: Subject, *, streamed: bool, parent: Parent | None = None) -> Run:
    """The row of a run that begins now, in the client's span `parent`; `record` fills it in and writes it."""
    return Run.begun(
        id=order.run_id,
        request_id=request_id.get(),
        trace_id=trace_context.trace_id_of(order.run_id, parent),
        agent_id=order.agent_id,
        agent_digest=order.digest,
        key_id=subject.key.id,
        key_name=subject.key.name,
        user_id=subject.user.id if subject.user else "",
        user_name=subject.user.label if subject.user else "",
        streamed=streamed,
        started_at=now(),
        outcome=Outcome.CANCELLED,  # until it ends otherwise
    )


async def stream(events: AsyncGenerator[RunEvent, None], writer: Writer) -> EventStream:
    """An event stream. A failure before there is anything to tell, within a second, is raised instead."""
    first = await _first_frame(events, writer)
    context.bind(stage="stream")
    return EventStream(_frames(first, events, writer), events.aclose)


async def _first_frame(events: AsyncGenerator[RunEvent, None], writer: Writer) -> bytes:
    """Of the first event that clients are told; a run ends with one at the latest."""
    frame = b""
    async for event in events:
        frame = writer.frame(event)
        # Headers leave after a second in any case, because a client's Stop only works once bytes flow.
        if frame or type(event) is UnderWay:
            break
    return writer.opening() + frame


async def _frames(first: bytes, events: AsyncGenerator[RunEvent, None], writer: Writer) -> AsyncGenerator[bytes, None]:
    try:
        yield first
        async for event in events:
            if frame := writer.frame(event):
                yield frame
    except GatewayError as error:
        yield writer.failure(error)
    except Exception as error:  # a stream must not be cut without a word
        log.error("stream_crashed", exc_info=error)
        yield writer.failure(GatewayError(_CRASHED))


async def whole(events: AsyncGenerator[RunEvent, None], fold: Whole) -> Answer:
    async with contextlib.aclosing(events):
        async for event in events:
            fold.add(event)
    leave_unlogged()  # its line is run_finished
    return Answer(fold.encoded())


async def record(
    events: AsyncGenerator[RunEvent, None], order: Order, run: Run, admission: Admission, parent: Parent | None = None
) -> AsyncGenerator[RunEvent, None]:
    """The same events; when they end, however they end, limits learn what was used, and the Run is written behind."""
    began = perf_counter()
    keeping.begin()
    completed = Outcome.COMPLETED
    context.begin_run(run.id, stage="execute", trace_id=run.trace_id, **order.facts)
    under_way = run_metrics.begun(order)
    _tell_start(run)
    try:
        async with contextlib.aclosing(events):
            async for event in events:
                if run.first_event_ms is None and type(event) is not UnderWay:
                    run.first_event_ms = (perf_counter() - began) * 1000
                if type(event) is ApprovalWanted:
                    completed = Outcome.WAITING
                elif type(event) is Finished:
                    run.outcome = Outcome.REFUSED if event.refused else completed
                    run.finish_reason = event.reason
                yield event
    except GatewayError as error:
        run.outcome = Outcome.FAILED
        run.error_code, run.error = error.code or "", error.message
        remember(error, order)
        raise
    except Exception:  # of the gateway itself: no client left
        run.outcome, run.error_code, run.error = Outcome.FAILED, "internal_error", _CRASHED
        raise
    finally:
        run.duration_ms = (perf_counter() - began) * 1000
        _count(run, order)
        run_metrics.counted(run, order, under_way)
        _log_end(run)
        try:
            await admission.settle(tokens=run.total_tokens, usd=run.cost_usd or 0.0)
        finally:
            await keeping.keep(run, order, began, parent)


def _count(run: Run, order: Order) -> None:
    usage = usage_of(order.calls)
    run.model_calls = usage.model_calls
    run.prompt_tokens, run.completion_tokens = usage.prompt_tokens, usage.completion_tokens
    run.tokens_estimated = usage.estimated
    run.cost_usd = cost(order.calls.calls)
    if order.calls.calls:
        last = order.calls.calls[-1]
        run.upstream, run.model = last.upstream, last.model


def _tell_start(run: Run) -> None:
    feed.tell("run_started", run_id=run.id, agent=run.agent_id, key=run.key_name, user=run.user_name)


def _log_end(run: Run) -> None:
    facts: dict[str, Any] = {"error_code": run.error_code, "error": run.error} if run.error_code else {}
    facts |= {
        "run_id": run.id,
        "agent": run.agent_id,
        "upstream": run.upstream,
        "model": run.model,
        "outcome": str(run.outcome),
        "duration_ms": round(run.duration_ms, 1),
        "tokens": run.total_tokens,
    }
    log.info("run_finished", **facts)
    feed.tell("run_finished", key=run.key_name, user=run.user_name, **facts)


def caller(request: HttpRequest) -> Subject:
    """What `authenticate` found for this request."""
    subject: Subject = request.auth  # type: ignore[attr-defined]  # ninja puts it there
    return subject
