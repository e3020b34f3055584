"""GET /metrics/prometheus: what a scraper reads."""

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from ninja import Router

from apps.admin_api.answers import NOT_FOUND, REFUSALS
from apps.admin_api.authentication import OperatorAuth
from apps.core.errors import NotFound
from apps.observability.metrics import exposition

router = Router()


@router.get(
    "/metrics/prometheus",
    response={200: None, **REFUSALS, **NOT_FOUND},
    openapi_extra={"responses": {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}},
    auth=OperatorAuth("execution.view_run"),
    summary="Metrics in Prometheus's text format",
)
def prometheus(request: HttpRequest) -> HttpResponse:  # noqa: ARG001
    """Of the worker that answers. GATEWAY_PROMETHEUS_ENABLED=false turns it off."""
    if not settings.GATEWAY_PROMETHEUS_ENABLED:
        raise NotFound("Metrics are off. GATEWAY_PROMETHEUS_ENABLED=true turns them on.")
    text, content_type = exposition()
    return HttpResponse(text, content_type=content_type)
