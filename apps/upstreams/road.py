"""A call to a model on whatever upstream can answer it: the one way from a run to a server.

What is tried, in what order, how often, and what is left alone for a while, is decided by attempts.py; transport.py
carries it. Until an answer has begun another candidate may take over; a stream that has begun is never started again.
"""

from asyncio import CancelledError
from collections.abc import Callable, Mapping
from time import monotonic, perf_counter
from typing import Any

import msgspec
from django.conf import settings

from apps.core import ids
from apps.core.errors import GatewayError, UpstreamError, UpstreamTimeout
from apps.observability import context, trace_context
from apps.upstreams import attempts, health, transport
from apps.upstreams.calls import ModelCall, current_calls
from apps.upstreams.dialect import adapt, adapt_responses
from apps.upstreams.routing import Candidate, Route, Target
from apps.upstreams.whole import asked_in, read_whole

Adapt = Callable[[dict[str, Any], Target], dict[str, Any]]


class Opened(msgspec.Struct, frozen=True):
    """An answer that has begun. Whoever has it must `aclose()` the source. `body` is what was sent."""

    target: Target
    call: ModelCall
    source: Any  # transport.AnswerStream
    body: dict[str, Any]

    def broken(self, error: UpstreamError) -> UpstreamError:
        """The error, which is counted against the upstream: what came makes no sense. The source's own are already."""
        health.note_failure(self.target.slug, error, cooldown=self.target.cooldown, has_begun=True)
        self.call.end(error)
        return error


class Answered(msgspec.Struct, frozen=True):
    """A whole answer, as the server sent it: a JSON object that is no error. Its usage has been counted."""

    target: Target
    call: ModelCall
    data: bytes


async def open_chat(
    route: Route, body: Mapping[str, Any], *, headers: Mapping[str, str] | None = None, query: Any = None
) -> Opened:
    """A streamed chat completion; `body` needs no model, and is not changed. See `open_stream`."""
    return await open_stream(route, "/chat/completions", body, adapt=adapt, headers=headers, query=query)


async def open_responses(
    route: Route, body: Mapping[str, Any], *, headers: Mapping[str, str] | None = None, query: Any = None
) -> Opened:
    """The same for a streamed request to the Responses API."""
    return await open_stream(route, "/responses", body, adapt=adapt_responses, headers=headers, query=query)


async def open_stream(
    route: Route,
    path: str,
    body: Mapping[str, Any],
    *,
    adapt: Adapt,
    headers: Mapping[str, str] | None = None,
    query: Any = None,
) -> Opened:
    """A stream of events from `path`, once the first of them is there. `adapt` makes of a copy of the body what each
    upstream takes.

    It is one call of the run's (`current_calls`), named after the upstream that answered, or was asked last. Raises
    UpstreamError, RateLimited never: a server's 429 is an UpstreamRejected with the honest `retry_after`, and an
    upstream whose places are all taken UpstreamBusy.
    """
    call = _call(route)
    told = _headers(headers, call)

    async def ask(candidate: Candidate, patience: float) -> Opened:
        sent = _sent(candidate, path, body, adapt, call)
        source = await transport.open_stream(
            candidate.target, path, sent, headers=told, query=query or {}, patience=patience
        )
        return Opened(candidate.target, call, source, sent)

    try:
        opened, place = await attempts.answer(route.candidates, ask, _until_first_event)
    except BaseException as error:
        call.end(error if isinstance(error, GatewayError) else None)
        raise
    opened.source.place = place
    call.answered = perf_counter()
    call.estimated = True
    return opened


async def ask_whole(
    route: Route,
    path: str,
    body: Mapping[str, Any],
    *,
    adapt: Adapt,
    headers: Mapping[str, str] | None = None,
    query: Any = None,
    timeout: float | None = None,  # noqa: ASYNC109  # over all attempts
) -> Answered:
    """The whole answer of `path` to a request that asks for no stream, within `timeout` seconds (else of a run).

    Attempts, limits and errors are those of `open_stream`; until all of it is there another upstream may answer.
    """
    call = _call(route)
    told = _headers(headers, call)
    ends_at = monotonic() + (settings.GATEWAY_RUN_TIMEOUT if timeout is None else timeout)

    async def ask(candidate: Candidate, patience: float) -> Answered:
        sent = _sent(candidate, path, body, adapt, call)
        try:
            data = await transport.ask(candidate.target, path, sent, headers=told, query=query or {}, patience=patience)
        except (CancelledError, UpstreamTimeout) as error:
            if isinstance(error, CancelledError) or error.reached:
                call.estimate(asked_in(sent), 0)  # the server had begun, most likely
            raise
        read_whole(data, sent, call)
        return Answered(candidate.target, call, data)

    try:
        answered, place = await attempts.answer(route.candidates, ask, lambda _: ends_at - monotonic())
    except BaseException as error:
        call.end(error if isinstance(error, GatewayError) else None)
        raise
    call.end()
    if place:
        place.leave()
    return answered


def _until_first_event(target: Target) -> float:
    return target.first_event_timeout


def _call(route: Route) -> ModelCall:
    """Counted as one of the run's, however many attempts it takes. Those that fail have used nothing that is known."""
    log = current_calls.get()
    if log is None:
        return ModelCall(route.target.slug, route.model, estimated=False)
    return log.begin(route.target.slug, route.model)


def _headers(given: Mapping[str, str] | None, call: ModelCall) -> Mapping[str, str]:
    """The caller's, and the trace's where upstreams are told of it."""
    trace = trace_context.current.get()
    if trace is None:
        return given or {}
    call.span_id = ids.new_id("")[:16]
    return {**trace.headers(call.span_id), **(given or {})}


def _sent(candidate: Candidate, path: str, body: Mapping[str, Any], adapt_to: Adapt, call: ModelCall) -> dict[str, Any]:
    sent = dict(body)
    if "model" in sent or path != "/responses" or "prompt" not in sent:  # a prompt of that API may choose the model
        sent["model"] = candidate.model
    sent = adapt_to(sent, candidate.target)
    call.upstream, call.model = candidate.target.slug, sent.get("model", "")
    call.attempts += 1
    if call.heard:
        call.heard.sent = asked_in(sent)
    context.bind(upstream=call.upstream, model=call.model)
    return sent
