"""Whatever went wrong, as OpenAI's error object: `{"error": {"message", "type", "param", "code"}}`.

https://platform.openai.com/docs/guides/error-codes
"""

import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import structlog
from django.core.exceptions import DisallowedHost, RequestDataTooBig, SuspiciousOperation
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.utils.decorators import async_only_middleware
from ninja.errors import AuthenticationError, HttpError, ValidationError

from apps.core.errors import (
    AgentUnavailable,
    BodyTooLarge,
    GatewayError,
    InvalidRequest,
    ModelNotFound,
    NotFound,
    RateLimited,
    Unauthenticated,
    Unavailable,
)
from apps.core.json import encode
from apps.observability import context, error_ring

log = structlog.get_logger(__name__)


def error_body(error: GatewayError) -> dict[str, Any]:
    return {"error": {"message": error.message, "type": error.type, "param": error.param, "code": error.code}}


def error_response(request: HttpRequest, error: Exception) -> HttpResponse:
    """The one place where an exception becomes an answer."""
    told = as_gateway_error(request, error)
    context.bind(error_code=told.code, error=told.message)  # for the line request_finished
    if isinstance(told, ModelNotFound | AgentUnavailable):
        _remember(told)
    response = HttpResponse(encode(error_body(told)), content_type="application/json", status=told.status)
    if told.status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    if told.retry_after is not None:
        response.headers["Retry-After"] = str(math.ceil(told.retry_after))
    if isinstance(told, RateLimited):
        for name, value in told.headers.items():
            response.headers[name] = value
    return response


def _remember(error: ModelNotFound | AgentUnavailable) -> None:
    """What no run came of. Names that do not exist are one row for each key, whatever they are."""
    facts = context.current()
    if "run_id" in facts or "key_id" not in facts:
        return
    error_ring.note(
        "resolve",
        code=error.code or "",
        subject=f"key {facts['key_id']}" if isinstance(error, ModelNotFound) else "",
        message=error.message,
        remedy=_WRONG_NAME if isinstance(error, ModelNotFound) else _NOT_SERVING,
        last={"key_id": facts["key_id"]},
        is_message_alike=isinstance(error, AgentUnavailable),
    )


_WRONG_NAME = "Correct the name in the client, or give the agent an alias on its page."
_NOT_SERVING = "The agent's page says why it does not serve, and what to do."


def as_gateway_error(request: HttpRequest, error: BaseException) -> GatewayError:
    match error:
        case GatewayError():
            return error
        case ValidationError():
            return _of_validation(error.errors)
        case AuthenticationError():
            return Unauthenticated("No API key was given.")
        case HttpError() if error.__cause__:  # ninja's wrapper around parsing the body
            return as_gateway_error(request, error.__cause__)
        case _:
            return _of_django(request, error)


def _of_django(request: HttpRequest, error: BaseException) -> GatewayError:
    match error:
        case Http404():
            return NotFound(f"There is nothing at {request.method} {request.path}. See /docs for what there is.")
        case RequestDataTooBig():
            return BodyTooLarge("The request body is larger than this endpoint takes.")
        case DisallowedHost():
            return InvalidRequest(
                "The gateway does not go by this host name. Name it in GATEWAY_ALLOWED_HOSTS or GATEWAY_PUBLIC_URL.",
                code="unknown_host",
            )
        case SuspiciousOperation():
            return InvalidRequest("The request is malformed.")
        case OperationalError() | InterfaceError():
            log.error("database_away", path=request.path, error=str(error))
            return Unavailable("The gateway's database does not answer. Try again in a moment.", retry_after=5)
        case _:
            log.error("request_crashed", path=request.path, exc_info=error)
            return GatewayError("The gateway itself failed. Its log has the details under this request id.")


def _of_validation(errors: list[dict[str, Any]]) -> InvalidRequest:
    """What is wrong, with its place written as OpenAI writes it: `messages[3].role`.

    Of several errors the deepest is the one that was meant: a union reports each of its members.
    """
    error = max(errors, key=lambda error: len(error["loc"]))
    param = _place(error["loc"])
    message: str = error["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if error["type"].startswith("union_tag"):  # a message without a role that exists, or a part without such a type
        tag_name = error["ctx"]["discriminator"].strip("'")
        param = f"{param}.{tag_name}"
        known = error["ctx"].get("expected_tags")
        message = f"'{error['ctx']['tag']}' is none of {known}" if known else "Field required"
    if not param:
        return InvalidRequest("The request body must be a JSON object.")
    return InvalidRequest(f"Invalid '{param}': {message}.", param=param)


def _place(location: Sequence[Any]) -> str:
    """Without ninja's leading words (`query`, or `body` and the argument's name), and without pydantic's names for the
    members of unions."""
    place, previous = "", None
    for part in location[2 if location[0] == "body" else 1 :]:
        is_member = part in _UNION_TAGS if isinstance(previous, int) else part == "str" or "[" in str(part)
        if isinstance(part, int):
            place += f"[{part}]"
        elif not is_member:
            place += f".{part}" if place else part
        previous = part
    return place


_UNION_TAGS = frozenset(  # roles of messages and types of their parts, which pydantic puts behind an index
    {"system", "developer", "user", "assistant", "tool", "text", "image_url", "input_audio", "file", "refusal"}
)


@async_only_middleware
def openai_errors(
    get_response: Callable[[HttpRequest], Awaitable[HttpResponseBase]],
) -> Callable[[HttpRequest], Awaitable[HttpResponseBase]]:
    """For what does not pass ninja: unknown paths, wrong methods, and the exceptions nobody expected."""

    async def middleware(request: HttpRequest) -> HttpResponseBase:
        try:
            response = await get_response(request)
        except Exception as error:  # noqa: BLE001  # the outermost: everything must be answered
            return error_response(request, error)
        return _wrong_method(request, response) if response.status_code == 405 else response

    return middleware


def operators_errors(
    get_response: Callable[[HttpRequest], HttpResponseBase],
) -> Callable[[HttpRequest], HttpResponseBase]:
    """For methods that the operators' API does not take, which ninja answers itself. The console's pages stay."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        response = get_response(request)
        match = request.resolver_match
        is_ours = response.status_code == 405 and match is not None and "ninja" in match.app_names
        return _wrong_method(request, response) if is_ours else response

    return middleware


def _wrong_method(request: HttpRequest, response: HttpResponseBase) -> HttpResponse:
    allowed = response.headers.get("Allow", "")
    told = error_response(
        request,
        NotFound(
            f"{request.path} does not take {request.method}; it takes {allowed}.",
            status=405,
            code="method_not_allowed",
        ),
    )
    told.headers["Allow"] = allowed
    return told
