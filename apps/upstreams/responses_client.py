"""A client for the SDK's OpenAIResponsesModel on the gateway's own road to LLM servers.

It has the few members that the model uses (`base_url`, `responses.create`). So hosted tools and prompts get the same
time-outs, errors and counting as chat completions do, and no second pool of connections. Events become the stock
client's own classes, which the SDK tells apart by isinstance; one that those do not know passes by as it came, and an
output item that they do not know is left out: the stock client would take it for a message.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from types import NoneType
from typing import Any, Final, Literal, get_args, get_origin

import msgspec
from openai import BaseModel, NotGiven, Omit
from openai.types.responses import Response, ResponseOutputItem, ResponseStreamEvent

from apps.core.errors import GatewayError, UpstreamError, UpstreamUnreachable
from apps.core.json import UNREADABLE
from apps.upstreams import road
from apps.upstreams.calls import CallLog, current_calls, number
from apps.upstreams.hearing import hear_event
from apps.upstreams.refusals import failure
from apps.upstreams.road import Opened
from apps.upstreams.routing import Route
from apps.upstreams.stock_client import as_openai, base_url, module_headers

_NOT_SENT = frozenset({"extra_headers", "extra_query", "extra_body", "timeout", "stream"})
_CHAT_ONLY = frozenset({"stop", "seed", "logit_bias", "response_format"})  # of what a client may ask for
_LAST = frozenset({"response.completed", "response.incomplete"})
_FAILURES = frozenset({"error", "response.error", "response.failed"})
_FINISH_REASONS: Mapping[str | None, str] = {"max_output_tokens": "length", "content_filter": "content_filter"}
_PACE_EVERY = 64  # events


class _UnknownEvent(BaseModel):
    """Of a newer server, or another maker's."""

    type: str


def _by_type(annotated_union: Any) -> dict[str, type[BaseModel]]:
    """The stock client's classes by the `type` that each is for."""
    by_type: dict[str, type[BaseModel]] = {}
    for one in get_args(get_args(annotated_union)[0]):
        kind = one.model_fields["type"].annotation
        if get_origin(kind) is Literal:
            by_type |= dict.fromkeys(get_args(kind), one)
    return by_type


_EVENTS: Final = _by_type(ResponseStreamEvent)
_ITEMS: Final = frozenset(_by_type(ResponseOutputItem))


class ResponseEvents:
    """What `create(stream=True)` returns: an async iterator of events with `aclose()`."""

    def __init__(self, opened: Opened, log: CallLog | None) -> None:
        self._opened = opened
        self._target = opened.target
        self._call = opened.call
        self._log = log
        self._source = opened.source
        self._body = opened.body
        self._generator = self._events()

    def __aiter__(self) -> AsyncIterator[Any]:
        return self._generator

    async def aclose(self) -> None:
        """Ends the connection, whether or not the iteration has begun."""
        try:
            await self._generator.aclose()
        finally:
            await self._source.aclose()

    async def _events(self) -> AsyncGenerator[Any, None]:
        received = 0
        try:
            async for events in self._source:
                for data in events:
                    event = self._read(data)
                    received += event["type"].endswith(".delta")
                    if self._log is not None and received % _PACE_EVERY == 0:
                        await self._log.wait_for_reader()
                    if not _is_known_item(event.get("item")):
                        continue
                    if event["type"] in _LAST:
                        response = event.get("response") or {}
                        response["output"] = list(filter(_is_known_item, response.get("output") or ()))
                        self._count(response)
                        await self._source.finish()
                    yield _EVENTS.get(event["type"], _UnknownEvent).construct(**event)
                    if event["type"] in _LAST:
                        return
            raise self._opened.broken(
                UpstreamUnreachable(
                    f"Upstream '{self._target.slug}' ended its answer without finishing it.", code="upstream_cut"
                )
            )
        except GatewayError as error:
            self._call.end(error)
            raise as_openai(error, self._target) from error
        finally:
            self._call.end()
            if self._call.estimated:
                self._call.estimate(self._body.get("input"), received)

    def _read(self, data: bytes) -> dict[str, Any]:
        event = self._parse(data)
        if event["type"] in _FAILURES:
            raise self._opened.broken(failure(self._target, event))
        if self._call.heard:
            hear_event(self._call.heard, event)
        return event

    def _parse(self, data: bytes) -> dict[str, Any]:
        try:
            event = msgspec.json.decode(data)
        except UNREADABLE:
            event = None
        if isinstance(event, dict) and event.get("error") and not event.get("type"):
            event = {"type": "error", **event}
        if not isinstance(event, dict) or not isinstance(event.get("type"), str):
            raise self._opened.broken(
                UpstreamError(
                    f"Upstream '{self._target.slug}' sent something that is no event of the Responses API: "
                    f"{data[:80]!r}",
                    code="upstream_garbage",
                )
            )
        return event

    def _count(self, response: dict[str, Any]) -> None:
        call = self._call
        call.model = response.get("model") or call.model  # a prompt may have chosen it
        details = response.get("incomplete_details") or {}
        call.finish_reason = _FINISH_REASONS.get(details.get("reason"), "stop")
        if usage := response.get("usage"):
            call.estimated = False
            call.prompt_tokens, call.completion_tokens = number(usage, "input_tokens"), number(usage, "output_tokens")
            call.cached_tokens = number(usage.get("input_tokens_details"), "cached_tokens")
            call.reasoning_tokens = number(usage.get("output_tokens_details"), "reasoning_tokens")


def _is_known_item(item: Any) -> bool:
    return not isinstance(item, dict) or item.get("type") in _ITEMS


class Responses:
    """The client's `responses`."""

    def __init__(self, route: Route) -> None:
        self._route = route

    async def create(self, **kwargs: Any) -> Any:
        """As the stock client's: ResponseEvents when `stream` is True, else a Response.

        Whole answers are read from the stream too: one road, one set of time-outs, and a cancelled run ends at once.
        Raises openai.APIStatusError, APIConnectionError or APITimeoutError, with the GatewayError as their cause.
        """
        headers, query = module_headers(kwargs), kwargs.get("extra_query") or {}
        try:
            opened = await road.open_responses(self._route, _body(kwargs), headers=headers, query=query)
        except GatewayError as error:
            raise as_openai(error, self._route.target) from error
        events = ResponseEvents(opened, current_calls.get())
        if kwargs.get("stream") is True:
            return events
        try:
            return await _last(events)
        finally:
            await events.aclose()


class ResponsesClient:
    """Duck-typed `openai.AsyncOpenAI` for one route."""

    def __init__(self, route: Route) -> None:
        self.base_url = base_url(route.target.base_url)
        self.responses = Responses(route)


async def _last(events: ResponseEvents) -> Response:
    response: Response | None = None
    async for event in events:
        response = getattr(event, "response", None) or response
    assert response is not None  # without a last event, reading them raises
    return response


def _body(kwargs: dict[str, Any]) -> dict[str, Any]:
    given = {name: value for name, value in kwargs.items() if name not in _NOT_SENT}
    body = {name: _plain(value) for name, value in given.items() if not isinstance(value, Omit | NotGiven | NoneType)}
    asked = kwargs.get("extra_body") or {}
    for name, value in asked.items():
        if name not in _CHAT_ONLY:
            body.setdefault(name, value)  # what the agent itself asks for stands
    if (wanted := asked.get("response_format")) and "format" not in body.get("text", {}):
        body["text"] = {**body.get("text", {}), "format": _text_format(wanted)}
    body["stream"] = True
    return body


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json", exclude_unset=True) if hasattr(value, "model_dump") else value


def _text_format(response_format: dict[str, Any]) -> dict[str, Any]:
    """Chat completions nest the schema one level deeper."""
    return {"type": response_format["type"], **response_format.get("json_schema", {})}
