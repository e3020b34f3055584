"""Every way in which a run can end badly, as what the caller is told.

SDK exceptions and openai errors in, GatewayErrors out. The same as a table: docs/errors.md.
"""

from collections.abc import Iterator

import openai
from agents.exceptions import (
    AgentsException,
    InputGuardrailTripwireTriggered,
    MaxTurnsExceeded,
    ModelBehaviorError,
    ModelRefusalError,
    ModelTimeoutError,
    OutputGuardrailTripwireTriggered,
    ToolInputGuardrailTripwireTriggered,
    ToolOutputGuardrailTripwireTriggered,
    ToolTimeoutError,
    UserError,
)

from apps.core.errors import (
    GatewayError,
    InvalidModelOutput,
    MaxTurnsReached,
    RunFailed,
    ToolBlocked,
    ToolFailed,
    ToolTimedOut,
    UpstreamError,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from apps.upstreams.refusals import CALLERS_FAULT, refused

_WITHHELD = "withheld by the provider's content filter"  # the SDK's words for an answer its provider filtered away

_TOOL_RAISED = "Error running tool"  # its words for a tool that may not fail and did


class Declined(Exception):
    """Not a failure: a guardrail, a filter or the model said no. `text` is for the person who asked."""

    def __init__(self, text: str, *, by_model: bool = False) -> None:
        super().__init__(text)
        self.text = text
        self.by_model = by_model


def judge(error: BaseException, agent_id: str) -> GatewayError | Declined:
    """What `error`, raised by a run of `agent_id`, means to the caller. The original belongs in the log."""
    if declined := _declined(error):
        return declined
    causes = list(_chain(error))
    # Our own chat client raises openai's errors for the SDK, with the GatewayError behind them.
    if ours := next((cause for cause in causes if isinstance(cause, GatewayError)), None):
        return ours
    if stock := next((cause for cause in causes if isinstance(cause, openai.APIError)), None):
        return _of_stock_client(stock)
    if any(isinstance(cause, SystemExit | KeyboardInterrupt) for cause in causes):
        return RunFailed(f"The code of the agent '{agent_id}' called sys.exit().")
    return _of_sdk(error, agent_id)


def _declined(error: BaseException) -> Declined | None:
    if isinstance(error, InputGuardrailTripwireTriggered | OutputGuardrailTripwireTriggered):
        name = error.guardrail_result.guardrail.get_name()
        what = "request" if isinstance(error, InputGuardrailTripwireTriggered) else "answer"
        return Declined(f"This {what} was stopped by the agent's guardrail '{name}'.")
    if isinstance(error, ModelRefusalError):
        return Declined(error.refusal, by_model=_WITHHELD not in error.refusal)
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__


def _of_sdk(error: BaseException, agent_id: str) -> GatewayError:  # noqa: PLR0911  # a table
    match error:
        case MaxTurnsExceeded():
            return MaxTurnsReached(f"The agent '{agent_id}' reached its limit of turns without an answer.")
        case ToolInputGuardrailTripwireTriggered() | ToolOutputGuardrailTripwireTriggered():
            return ToolBlocked(f"A tool guardrail of the agent '{agent_id}' stopped the run.")
        case ModelTimeoutError():
            return UpstreamTimeout(f"A model call of the agent '{agent_id}' took longer than the agent lets it.")
        case ToolTimeoutError():
            return ToolTimedOut(f"A tool of the agent '{agent_id}' did not answer in time.")
        case ModelBehaviorError():
            return InvalidModelOutput(f"The model's answer does not fit the agent '{agent_id}': {error.message}")
        case UserError() if error.message.startswith(_TOOL_RAISED):
            return ToolFailed(f"A tool of the agent '{agent_id}' failed. The gateway's log has the details.")
        case UserError():
            return RunFailed(
                f"The agent '{agent_id}' is not set up to run here: {error.message}", code="agent_configuration"
            )
        case AgentsException():
            return RunFailed(f"The agent '{agent_id}' failed: {type(error).__name__}.")
        case _:
            return RunFailed(
                f"The code of the agent '{agent_id}' failed with {type(error).__name__}. "
                "The gateway's log has the details under this request id."
            )


def _of_stock_client(error: openai.APIError) -> UpstreamError:
    """From a client that the module brought itself."""
    if isinstance(error, openai.APITimeoutError):
        return UpstreamTimeout("The agent's own LLM server did not answer in time.")
    if isinstance(error, openai.APIConnectionError):
        return UpstreamUnreachable("The agent's own LLM server cannot be reached.")
    if isinstance(error, openai.APIStatusError):
        if error.status_code in CALLERS_FAULT:
            return refused(error.message, error.status_code, error.response.headers.get("retry-after"))
        if error.status_code in (401, 403):
            return UpstreamError("The agent's own LLM server refused its API key.", code="upstream_unauthorised")
    return UpstreamError(f"The agent's own LLM server failed: {error.message}")
