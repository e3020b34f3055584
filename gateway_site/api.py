"""The one HTTP API: every router, its documentation and its error shape."""

import json
import math
from typing import Any

import msgspec
from django.http import HttpRequest, HttpResponse
from ninja import NinjaAPI
from ninja.errors import AuthenticationError, HttpError, ValidationError
from ninja.parser import Parser

from apps.admin_api.routes import router as admin_router
from apps.core.errors import GatewayError, InvalidRequest
from apps.core.loop_handler import LoopRequest
from apps.core.version import VERSION
from apps.openai_api.errors import error_response
from apps.openai_api.routes import router as openai_router
from gateway_site.health import router as health_router


class StrictParser(Parser):
    """Takes JSON objects, and says where it breaks what is not one."""

    def parse_body(self, request: HttpRequest) -> Any:
        try:
            body = msgspec.json.decode(request.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidRequest(
                f"The request body is not valid JSON: {_what_is_wrong(request.body)}.", code="invalid_json"
            ) from error
        if not isinstance(body, dict):
            raise InvalidRequest("The request body must be a JSON object.")
        if isinstance(request, LoopRequest):
            request.document = body
        return body


def _what_is_wrong(body: bytes) -> str:
    """The standard library explains better than the fast parser, and takes one thing that is not text."""
    try:
        json.loads(body, parse_constant=_refuse, parse_float=_refuse_infinite)
    except RecursionError:
        return "it is nested too deeply"
    except ValueError as error:  # JSONDecodeError and UnicodeDecodeError
        return str(error)
    return r"it contains half of a surrogate pair (such as a lone \ud83d), which is no character"


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON number")


def _refuse_infinite(digits: str) -> None:
    if math.isinf(float(digits)):
        raise ValueError(f"{digits[:20]} is too large a number")


class GatewayAPI(NinjaAPI):
    """Spares /v1 the response that ninja makes beforehand: its views bring their own."""

    def create_temporal_response(self, request: HttpRequest) -> HttpResponse:
        return _UNUSED if request.path.startswith("/v1/") else super().create_temporal_response(request)


_UNUSED = HttpResponse()

api = GatewayAPI(
    title="Agent Gateway",
    version=VERSION,
    description="OpenAI Agents SDK agents as models on an OpenAI-compatible API.",
    parser=StrictParser(),
    docs_url="/docs",
    openapi_url="/openapi.json",
    urls_namespace="gateway",
)
api.add_router("/v1", openai_router)
api.add_router("", admin_router)
api.add_router("", health_router)


@api.exception_handler(GatewayError)
@api.exception_handler(ValidationError)
@api.exception_handler(AuthenticationError)
@api.exception_handler(HttpError)
@api.exception_handler(Exception)
def _told(request: HttpRequest, error: Exception) -> HttpResponse:
    return error_response(request, error)
