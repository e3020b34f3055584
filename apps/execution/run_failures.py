"""Failed runs under Errors, each with what an operator can do about it."""

from collections.abc import Mapping
from typing import Final

from apps.core.errors import AccessDenied, GatewayError, InvalidRequest, RateLimited, RunFailed, UpstreamRejected
from apps.execution.order import Order
from apps.observability import context, error_ring

_UPSTREAM: Final = (
    "See the upstream's page: whether it is up, and its time-outs. Another choice in a model route takes over."
)
_SLOW: Final = "Give the upstream or the run more time on its page, or choose a faster model."

REMEDIES: Final[Mapping[str, str]] = {
    "agent_error": "Mend the agent's module; the traceback says where it failed.",
    "agent_configuration": "Mend the agent's module as the message says.",
    "tool_error": "Mend the tool; the traceback says where it failed.",
    "tool_timeout": "Give the tool more time, or make it faster.",
    "tool_missing": "Add the tool in the admin under Tools, or take its name out of the module.",
    "max_turns": "Raise the turns of the agent on its page, or tell it in its instructions when to stop.",
    "run_timeout": "Raise the seconds of a run on the agent's page, or GATEWAY_RUN_TIMEOUT.",
    "invalid_model_output": "Choose a model that can give structured output, or loosen the agent's output type.",
    "mcp_unavailable": "See whether the MCP server runs and can be reached.",
    "no_upstream": "Add an upstream, or a route for the model, in the admin.",
    "no_default_model": "Choose a default model on the upstream's page.",
    "needs_responses": "Mark an upstream that has the Responses API on its page.",
    "upstream_unauthorised": "Enter the upstream's API key again on its page.",
    "upstream_rejected": "The message is the server's: see which parameter or model it does not take.",
    "rate_limit_exceeded": "The server asks for less: bound its calls at once, or give the route another choice.",
    "upstream_busy": "Raise the upstream's calls at once, or give the route another choice.",
    "upstream_timeout": _SLOW,
    "upstream_silent": _SLOW,
}


def remember(error: GatewayError, order: Order) -> None:
    """Keep a failure of this run, unless it is the caller's, or kept by who refused it."""
    if isinstance(error, AccessDenied | InvalidRequest | RateLimited):
        return
    upstream = order.calls.calls[-1].upstream if order.calls.calls else ""
    code = error.code or "agent_error"
    error_ring.note(
        context.current().get("stage", "execute"),  # of an answer that had begun: stream
        code=code,
        subject=order.agent_id,
        message=error.message,
        remedy=REMEDIES.get(code, "" if isinstance(error, RunFailed) else _UPSTREAM),
        facts={"agent": order.agent_id, **({"upstream": upstream} if upstream else {})},
        last={"run_id": order.run_id},
        is_message_alike=not isinstance(error, UpstreamRejected),  # which quotes what the caller sent
        error=error if error.__cause__ and isinstance(error, RunFailed) else None,
    )
