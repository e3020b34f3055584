"""A tool as runs see it: an immutable value of the live configuration."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from apps.tools.models import Kind


@dataclass(frozen=True, slots=True)
class LocalCall:
    """A function of an allowed module, by its dotted path."""

    function: str


@dataclass(frozen=True, slots=True)
class HttpCall:
    method: str
    url: str  # a template with arguments in braces
    body: Any  # a template; None: the arguments that nothing else uses
    headers: Mapping[str, str]  # templates
    secret_headers: Mapping[str, str] = field(repr=False)  # as they are
    extract: str  # JMESPath; empty: the whole answer
    allow_private_hosts: bool


@dataclass(frozen=True, slots=True)
class McpCall:
    server: str  # McpServer.slug
    remote_name: str


@dataclass(frozen=True, slots=True)
class Tool:
    """Times are in seconds. `source` is the dotted name that rules about tools are written for."""

    name: str
    kind: Kind
    description: str
    parameters: Mapping[str, Any]  # JSON schema
    source: str
    call: LocalCall | HttpCall | McpCall
    needs_approval: bool = False
    is_idempotent: bool = False
    retries: int = 2
    cache_seconds: float = 0.0
    max_calls_per_run: int | None = None
    timeout: float = 30.0
    max_concurrency: int = 16
    max_output_bytes: int = 65_536


@dataclass(frozen=True, slots=True)
class ToolOutput:
    """What the model is given. `is_error`: the text says what went wrong, and what to do. `outcome` is a word for
    metrics and the log, "" for ok or error: cached, timeout, ... as CallFailed has it."""

    text: str
    is_error: bool = False
    outcome: str = ""


class CallFailed(Exception):
    """A call came to nothing. The message is for the model: why, without internals and secrets.

    `outcome` is for metrics and the log; `may_retry`: the same call may succeed a moment later, after `retry_after`
    seconds if the server said so.
    """

    def __init__(
        self, message: str, *, outcome: str = "error", may_retry: bool = False, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.outcome = outcome
        self.may_retry = may_retry
        self.retry_after = retry_after


class ToolMissing(LookupError):
    """There is no such tool, or it is switched off. The message names the near ones."""

    def __init__(self, name: str, near: tuple[str, ...]) -> None:
        hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
        super().__init__(f"The gateway has no tool {name!r}.{hint}")
        self.name = name
        self.near = near
