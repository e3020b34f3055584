"""GET /admin/agents/errors: what is wrong with the agents."""

from typing import Literal

from django.http import HttpRequest
from ninja import Router, Schema

from apps.admin_api.answers import REFUSALS
from apps.admin_api.authentication import OperatorAuth
from apps.catalog.presentation import discovered

router = Router()


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
    response={200: AgentErrors, **REFUSALS},
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
