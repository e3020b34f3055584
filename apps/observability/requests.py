"""The request id and the line that every request leaves behind, for the road that never leaves the event loop."""

import logging
import re
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from time import perf_counter
from typing import Any

import structlog
from django.http import HttpRequest, HttpResponseBase
from django.utils.decorators import async_only_middleware

from apps.core.ids import new_ordered_id
from apps.core.tally import Tally, is_one_of_few, is_told
from apps.observability import context, request_metrics, trace_context

log = structlog.get_logger(__name__)

REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
QUIET_PATHS = frozenset({"/health", "/ready"})

request_id: ContextVar[str] = ContextVar("request_id", default="")
_unlogged: ContextVar[bool] = ContextVar("unlogged", default=False)
_strangers = Tally()
_refusals = Tally()


def request_id_from(given: str | None) -> str:
    """The caller's id when it is one that may stand in a header and a log line, else a new one."""
    if given and REQUEST_ID.fullmatch(given):
        return given
    return new_ordered_id("req_")


def leave_unlogged() -> None:
    """This request leaves no line behind when it ends, because enough like it have."""
    _unlogged.set(True)


@async_only_middleware
def request_log(
    get_response: Callable[[HttpRequest], Awaitable[HttpResponseBase]],
) -> Callable[[HttpRequest], Awaitable[HttpResponseBase]]:
    """Binds `x-request-id` to every log line of the request, returns it, and logs the request's end.

    A stream has not ended when its status line is ready: its line is `run_finished`.
    """

    async def middleware(request: HttpRequest) -> HttpResponseBase:
        started = perf_counter()
        identifier = request_id_from(request.META.get("HTTP_X_REQUEST_ID"))  # `headers` parses them all
        request_id.set(identifier)
        _unlogged.set(False)
        context.begin(**_facts(request, identifier))
        log.debug("request_started", method=request.method, path=request.path)
        response = await get_response(request)
        response.headers["x-request-id"] = identifier
        request_metrics.counted(request, response)
        is_quiet = response.streaming or request.path in QUIET_PATHS or _unlogged.get()
        # Of refused keys `authentication_failed` decides which are told.
        if not is_quiet and (response.status_code == 401 or _is_told(request, response)):
            _log_end(request, response, started)
        return response

    return middleware


def request_ids(get_response: Callable[[HttpRequest], HttpResponseBase]) -> Callable[[HttpRequest], HttpResponseBase]:
    """The same for Django's own handler, whose pages are looked at all the time: reading one is told at DEBUG."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        started = perf_counter()
        identifier = request_id_from(request.META.get("HTTP_X_REQUEST_ID"))
        token = request_id.set(identifier)
        try:
            with context.bound(**_facts(request, identifier)):
                log.debug("request_started", method=request.method, path=request.path)
                response = get_response(request)
                _log_end_of_page(request, response, started)
        finally:
            request_id.reset(token)
        response.headers["x-request-id"] = identifier
        return response

    return middleware


def _log_end_of_page(request: HttpRequest, response: HttpResponseBase, started: float) -> None:
    if request.method in ("GET", "HEAD") and response.status_code < 400:
        _log_end(request, response, started, level=logging.DEBUG)
    elif response.status_code not in (401, 429) and _is_told(request, response):
        _log_end(request, response, started)


def _facts(request: HttpRequest, identifier: str) -> dict[str, Any]:
    """What every line of a request says from its beginning."""
    facts = {"request_id": identifier, "stage": "authenticate"}
    if (header := request.META.get("HTTP_TRACEPARENT")) and (parent := trace_context.parsed(header)):
        facts["trace_id"] = parent.trace_id
    return facts


def _is_told(request: HttpRequest, response: HttpResponseBase) -> bool:
    """Whoever is nobody here can send as much as they like, and a key's holder what is refused: of many such requests
    a minute, some are told."""
    if not (who := _known(request)):
        return is_told(_strangers.add())
    return response.status_code < 400 or is_one_of_few(_refusals.add(f"{who} {response.status_code}"))


def _known(request: HttpRequest) -> str:
    """Whose key or session it is; empty of a stranger's."""
    if key_id := context.current().get("key_id"):
        return f"key {key_id}"
    user = getattr(request, "_cached_user", None)  # as far as the page asked: nobody is looked up for a log line
    return f"user {user.pk}" if user and user.is_authenticated else ""


def _log_end(request: HttpRequest, response: HttpResponseBase, started: float, level: int = logging.INFO) -> None:
    log.log(
        logging.WARNING if response.status_code >= 500 else level,
        "request_finished",
        method=request.method,
        path=request.path,
        status=response.status_code,
        duration_ms=round((perf_counter() - started) * 1000, 1),
    )
