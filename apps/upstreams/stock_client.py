"""What our clients and the stock openai client have in common, so that the SDK and modules can tell no difference."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import httpx2
import openai

from apps.core.errors import GatewayError, UpstreamError, UpstreamTimeout, UpstreamUnreachable
from apps.upstreams.routing import Target

# https://github.com/openai/openai-python#handling-errors
_KINDS = {
    400: openai.BadRequestError,
    401: openai.AuthenticationError,
    403: openai.PermissionDeniedError,
    404: openai.NotFoundError,
    409: openai.ConflictError,
    422: openai.UnprocessableEntityError,
    429: openai.RateLimitError,
}

DEMO_URL = "http://demo.invalid/v1"  # the built-in demo has no address


@lru_cache(maxsize=256)
def base_url(target_url: str) -> httpx2.URL:
    """As the stock client has it."""
    return httpx2.URL(target_url or DEMO_URL)


def module_headers(kwargs: Mapping[str, Any]) -> dict[str, str]:
    """The module's own headers among the arguments of `create`; the SDK's user agent is not one."""
    given = kwargs.get("extra_headers") or {}
    return {name: value for name, value in given.items() if isinstance(value, str) and name.lower() != "user-agent"}


def as_openai(error: GatewayError, target: Target) -> openai.APIError:
    """The exception that the stock client would raise, so that the SDK and modules can tell what happened."""
    request = httpx2.Request("POST", target.base_url or DEMO_URL)
    if isinstance(error, UpstreamTimeout):
        return openai.APITimeoutError(request)
    if isinstance(error, UpstreamUnreachable):
        return openai.APIConnectionError(message=error.message, request=request)
    headers = {"retry-after": f"{error.retry_after:g}"} if error.retry_after is not None else {}
    status = (isinstance(error, UpstreamError) and error.answered) or error.status
    response = httpx2.Response(status, request=request, headers=headers)
    kind = _KINDS.get(status) or (openai.InternalServerError if status >= 500 else openai.APIStatusError)
    return kind(error.message, response=response, body={"message": error.message})
