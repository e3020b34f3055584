"""The one error tree: everything a caller can be told, each with its HTTP status and OpenAI's type and code.

GatewayError
├── InvalidRequest            400  the request cannot be served as it is
│   ├── BodyTooLarge          413
│   └── ApprovalClosed        409  decided already, expired, or another's
├── Unauthenticated           401  a key that does not count
│   ├── KeyMissing            401
│   ├── KeyExpired            401
│   └── IdentityRefused       401  the signed person behind the key
├── TooManyAttempts           429  to authenticate, from one address
├── AccessDenied              403  the key is good, the access is not
│   └── ToolBlocked           403  a tool guardrail of the agent stopped the run
├── RateLimited               429  a limit of the gateway is used up
├── NotFound                  404
│   └── ModelNotFound         404
├── RunFailed                 500  the agent's own code or configuration failed
│   ├── MaxTurnsReached       500
│   ├── ToolFailed            500
│   └── ToolTimedOut          504
├── Unavailable               503  the gateway or the agent cannot serve now
│   └── AgentUnavailable      503
└── UpstreamError             502  the LLM server
    ├── UpstreamUnreachable   502
    ├── UpstreamRejected      as the server said (400, 404, 413, 422, 429)
    ├── UpstreamTimeout       504
    ├── UpstreamBusy          429  all of its places are taken, and nobody left one in time
    └── InvalidModelOutput    502  the model's answer does not fit

Errors of other libraries are converted where they enter, with the cause kept. `type` and `code` follow OpenAI's own
(https://platform.openai.com/docs/guides/error-codes), so that the official clients raise their own classes.
"""

from collections.abc import Mapping


class GatewayError(Exception):
    """`message` is for the person who called: one sentence that says what to do. `retry_after` is in seconds."""

    status = 500
    type = "server_error"
    code: str | None = None

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        status: int | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after = retry_after
        if code is not None:
            self.code = code
        if status is not None:
            self.status = status


class InvalidRequest(GatewayError):
    status = 400
    type = "invalid_request_error"


class BodyTooLarge(InvalidRequest):
    status = 413
    code = "request_too_large"


class ApprovalClosed(InvalidRequest):
    status = 409
    code = "approval_closed"


class Unauthenticated(GatewayError):
    status = 401
    type = "invalid_request_error"
    code = "invalid_api_key"
    reason = "unknown"  # for metrics and the log


class KeyMissing(Unauthenticated):
    reason = "missing"


class KeyExpired(Unauthenticated):
    reason = "expired"


class IdentityRefused(Unauthenticated):
    code = "invalid_identity"
    reason = "identity"


class TooManyAttempts(GatewayError):
    status = 429
    type = "rate_limit_error"
    code = "too_many_attempts"


class AccessDenied(GatewayError):
    status = 403
    type = "permission_error"
    code = "access_denied"


class ToolBlocked(AccessDenied):
    code = "tool_blocked"


class RateLimited(GatewayError):
    """`ran_out` is OpenAI's type: requests, tokens or insufficient_quota. `headers` tell how far limits are used."""

    status = 429
    code = "rate_limit_exceeded"

    def __init__(self, message: str, *, ran_out: str, retry_after: float, headers: Mapping[str, str]) -> None:
        super().__init__(message, retry_after=retry_after)
        self.type = ran_out
        self.headers = headers


class NotFound(GatewayError):
    status = 404
    type = "invalid_request_error"
    code = "not_found"


class ModelNotFound(NotFound):
    code = "model_not_found"


class RunFailed(GatewayError):
    code = "agent_error"


class MaxTurnsReached(RunFailed):
    code = "max_turns"


class ToolFailed(RunFailed):
    code = "tool_error"


class ToolTimedOut(RunFailed):
    status = 504
    code = "tool_timeout"


class Unavailable(GatewayError):
    status = 503
    code = "unavailable"


class AgentUnavailable(Unavailable):
    code = "agent_unavailable"


class UpstreamError(GatewayError):
    status = 502
    type = "upstream_error"
    code = "upstream_error"
    answered: int | None = None  # the server's own status, which a module's retry policy wants to know
    reached = True  # False when there was no connection: the server knows nothing of the request


class UpstreamUnreachable(UpstreamError):
    code = "upstream_unreachable"


class UpstreamRejected(UpstreamError):
    code = "upstream_rejected"


class UpstreamTimeout(UpstreamError):
    status = 504
    code = "upstream_timeout"


class UpstreamBusy(UpstreamError):
    status = 429
    type = "rate_limit_error"
    code = "upstream_busy"


class InvalidModelOutput(UpstreamError):
    code = "invalid_model_output"
