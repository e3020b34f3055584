"""The request id and the line that every request leaves behind, for the road that never leaves the event loop."""

import logging
import re
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from time import perf_counter

import structlog
from django.http import HttpRequest, HttpResponseBase
from django.utils.decorators import async_only_middleware

from apps.core.ids import new_id
from apps.observability import context, request_metrics

log = structlog.get_logger(__name__)

REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
QUIET_PATHS = frozenset({"/health", "/ready"})

request_id: ContextVar[str] = ContextVar("request_id", default="")
_unlogged: ContextVar[bool] = ContextVar("unlogged", default=False)


def request_id_from(given: str | None) -> str:
    """The caller's id when it is one that may stand in a header and a log line, else a new one."""
    if given and REQUEST_ID.fullmatch(given):
        return given
    return new_id("req_")


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
        context.bind(request_id=identifier)
        response = await get_response(request)
        response.headers["x-request-id"] = identifier
        request_metrics.counted(request, response)
        if not (response.streaming or request.path in QUIET_PATHS or _unlogged.get()):
            log.log(
                logging.WARNING if response.status_code >= 500 else logging.INFO,
                "request_finished",
                method=request.method,
                path=request.path,
                status=response.status_code,
                duration_ms=round((perf_counter() - started) * 1000, 1),
            )
        return response

    return middleware


def request_ids(get_response: Callable[[HttpRequest], HttpResponseBase]) -> Callable[[HttpRequest], HttpResponseBase]:
    """The same `x-request-id` for Django's own handler: on every log line of the request, and in its answer."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        identifier = request_id_from(request.META.get("HTTP_X_REQUEST_ID"))
        token = request_id.set(identifier)
        try:
            with context.bound(request_id=identifier):
                response = get_response(request)
        finally:
            request_id.reset(token)
        response.headers["x-request-id"] = identifier
        return response

    return middleware
