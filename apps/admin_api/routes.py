"""The operators' door: what the admin shows, as JSON."""

from typing import Literal

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from ninja import Router, Schema

from apps.admin_api.authentication import OperatorAuth
from apps.catalog.presentation import discovered
from apps.core.errors import NotFound
from apps.observability.metrics import exposition
from apps.openai_api.schemas import ErrorBody

router = Router(tags=["Operators' API"])


class AgentError(Schema):
    """Why something in the discovery folders does not serve as it should; docs/diagnostics.md lists the codes."""

    agent: str
    state: str  # live, stale (the last good version serves), broken, or empty for what is no agent
    severity: Literal["error", "warning"]
    code: str
    reason: str
    remedy: str
    file: str
    line: int | None


class AgentErrors(Schema):
    data: list[AgentError]


@router.get(
    "/admin/agents/errors",
    response={200: AgentErrors, 401: ErrorBody, 403: ErrorBody},
    auth=OperatorAuth("catalog.view_diagnostic"),
    summary="What is wrong with the agents",
)
def agent_errors(request: HttpRequest, severity: Literal["error", "warning"] | None = None) -> AgentErrors:  # noqa: ARG001
    """Every diagnostic of the worker that answers, with file, line, reason and remedy; errors first."""
    found = [
        AgentError(agent=row["id"], state=row["state"], **problem)
        for row in discovered()
        for problem in row["problems"]
        if severity in (None, problem["severity"])
    ]
    return AgentErrors(data=sorted(found, key=lambda one: (one.severity, one.agent)))


@router.get(
    "/metrics/prometheus",
    response={200: str, 401: ErrorBody, 403: ErrorBody},
    auth=OperatorAuth("execution.view_run"),
    summary="Metrics in Prometheus's text format",
)
def prometheus(request: HttpRequest) -> HttpResponse:  # noqa: ARG001
    """Of the worker that answers. GATEWAY_PROMETHEUS_ENABLED=false turns it off."""
    if not settings.GATEWAY_PROMETHEUS_ENABLED:
        raise NotFound("Metrics are off. GATEWAY_PROMETHEUS_ENABLED=true turns them on.")
    text, content_type = exposition()
    return HttpResponse(text, content_type=content_type)
