"""The one HTTP API: every router, its documentation and its error shape."""

from typing import Any

import msgspec
from django.http import HttpRequest, HttpResponse
from ninja import NinjaAPI
from ninja.errors import AuthenticationError, HttpError, ValidationError
from ninja.parser import Parser

from apps.core.errors import GatewayError, InvalidRequest
from apps.openai_api.errors import error_response
from apps.openai_api.routes import router as openai_router
from gateway_site.health import router as health_router


class StrictParser(Parser):
    """Refuses what is not JSON with the place where it breaks; lone surrogates are not text and are refused too."""

    def parse_body(self, request: HttpRequest) -> Any:
        try:
            return msgspec.json.decode(request.body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InvalidRequest(f"The request body is not valid JSON: {error}.", code="invalid_json") from error


api = NinjaAPI(
    title="Agent Gateway",
    version="0.1.0",
    description="OpenAI Agents SDK agents as models on an OpenAI-compatible API.",
    parser=StrictParser(),
    docs_url="/docs",
    openapi_url="/openapi.json",
    urls_namespace="gateway",
)
api.add_router("/v1", openai_router)
api.add_router("", health_router)


@api.exception_handler(GatewayError)
@api.exception_handler(ValidationError)
@api.exception_handler(AuthenticationError)
@api.exception_handler(HttpError)
@api.exception_handler(Exception)
def _told(request: HttpRequest, error: Exception) -> HttpResponse:
    return error_response(request, error)
