"""A model of an upstream, asked as it is: what comes back is handed on without being rebuilt."""

from collections.abc import AsyncGenerator, Mapping
from typing import Any

from django.conf import settings

from apps.core.errors import Unavailable, UpstreamError
from apps.execution.events import Finished, FinishReason, Forwarded, RunEvent
from apps.execution.in_time import in_time
from apps.execution.order import PassOrder
from apps.execution.usage import usage_of
from apps.upstreams import road
from apps.upstreams.dialect import adapt
from apps.upstreams.raw_answers import CHAT, Members, RawWhole
from apps.upstreams.raw_stream import RawStream
from apps.upstreams.routing import Route, Target, upstreams

_REASONS: Mapping[str | None, FinishReason] = {
    "length": "length",
    "content_filter": "content_filter",
    "tool_calls": "tool_calls",
}


def pass_through(order: PassOrder) -> AsyncGenerator[RunEvent, None]:
    """The answer as Forwarded events, ending with Finished. Raises GatewayError."""
    if not order.streamed:
        return _whole(order)  # one call, which watches its own time
    return in_time(_streamed(order), order.options.run_timeout or settings.GATEWAY_RUN_TIMEOUT, streamed=True)


async def _whole(order: PassOrder) -> AsyncGenerator[RunEvent, None]:
    answered = await road.ask_whole(
        _route(order), order.path, order.body, adapt=_adapt_for(order.path), timeout=order.options.run_timeout
    )
    yield Forwarded([RawWhole(answered.target, answered.call, order.path, order.body).read(answered.data)])
    yield _finished(order)


async def _streamed(order: PassOrder) -> AsyncGenerator[RunEvent, None]:
    body, asks_usage = _with_usage(order.body)
    opened = await road.open_stream(_route(order), order.path, body, adapt=_adapt_for(order.path))
    answer = RawStream(opened.target, opened.call, order.path, body, asks_usage=asks_usage)
    try:
        async for events in opened.source:
            chunks, failure = _read(answer, events)
            if chunks:
                yield Forwarded(chunks)
            if failure:
                raise opened.broken(failure)
        if ending := _ending(opened, answer):
            yield Forwarded(ending)
    except UpstreamError as error:
        opened.call.end(error)
        raise
    finally:
        opened.call.end()
        answer.count()
        await opened.source.aclose()
    yield _finished(order)


def _ending(opened: road.Opened, answer: RawStream) -> list[Members]:
    try:
        return answer.ending(is_complete=opened.source.is_complete)
    except UpstreamError as error:
        raise opened.broken(error) from error


def _read(answer: RawStream, events: list[bytes]) -> tuple[list[Members], UpstreamError | None]:
    """What is told of one read, and the error that follows it."""
    chunks: list[Members] = []
    try:
        chunks.extend(filter(None, map(answer.read, events)))  # what came before an error is in it
    except UpstreamError as error:
        return chunks, error
    return chunks, None


def _route(order: PassOrder) -> Route:
    target = upstreams.current().targets.get(order.upstream)
    if target is None:
        raise Unavailable(f"The upstream '{order.upstream}' was switched off. Ask for another model.", param="model")
    return Route(target, order.model)


def _with_usage(body: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """A streamed request that asks for the usage, which the record needs, and whether it did so before."""
    options = body.get("stream_options") or {}
    return {**body, "stream_options": {**options, "include_usage": True}}, bool(options.get("include_usage"))


def _adapt_for(path: str) -> road.Adapt:
    return adapt if path == CHAT else _as_it_is


def _as_it_is(body: dict[str, Any], target: Target) -> dict[str, Any]:  # noqa: ARG001  # the signature of `adapt`
    return body


def _finished(order: PassOrder) -> Finished:
    last = order.calls.calls[-1].finish_reason if order.calls.calls else None
    return Finished(_REASONS.get(last, "stop"), usage_of(order.calls))
