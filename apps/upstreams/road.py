"""A call to a model on whatever upstream can answer it: the one way from a run to a server.

What is tried, in what order, how often, and what is left alone for a while, is decided here; transport.py carries it.
Until an answer has begun another candidate may take over; a stream that has begun is never started again.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from apps.upstreams import transport
from apps.upstreams.calls import ModelCall, current_calls
from apps.upstreams.dialect import adapt, adapt_responses
from apps.upstreams.routing import Route, Target

Adapt = Callable[[dict[str, Any], Target], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Opened:
    """An answer that has begun. Whoever has it must `aclose()` the source. `body` is what was sent."""

    target: Target
    call: ModelCall
    source: Any  # transport.AnswerStream
    body: dict[str, Any]


async def open_chat(
    route: Route, body: Mapping[str, Any], *, headers: Mapping[str, str] | None = None, query: Any = None
) -> Opened:
    """A streamed chat completion; `body` needs no model, and is not changed.

    The call is counted among the run's (`current_calls`). Raises UpstreamError, RateLimited never: a server's 429 is an
    UpstreamRejected with the honest `retry_after`.
    """
    return await _open(route, body, adapt, transport.open_chat, headers, query)


async def open_responses(
    route: Route, body: Mapping[str, Any], *, headers: Mapping[str, str] | None = None, query: Any = None
) -> Opened:
    """The same for a streamed request to the Responses API."""
    return await _open(route, body, adapt_responses, transport.open_responses, headers, query)


async def _open(route: Route, body: Mapping[str, Any], adapt_to: Adapt, post: Any, headers: Any, query: Any) -> Opened:
    candidate = route.candidates[0]
    target = candidate.target
    sent = dict(body)
    if "prompt" not in sent or "model" in sent:  # a prompt of the Responses API may choose the model
        sent["model"] = candidate.model
    sent = adapt_to(sent, target)
    call = ModelCall(target.slug, sent.get("model", ""))
    if (log := current_calls.get()) is not None:
        log.calls.append(call)
    try:
        source = await post(target, sent, headers=headers or {}, query=query or {})
    except BaseException:
        call.estimated = False  # nothing was generated, so nothing was used
        raise
    return Opened(target, call, source, sent)
