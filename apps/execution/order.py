"""What to run, in one value: a module's agent, a declared agent, or a model as it is."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import field

from apps.access.subject import Subject
from apps.catalog.declared import Declared
from apps.catalog.registry import Generation
from apps.catalog.run_options import DEFAULT, RunOptions
from apps.core.ids import new_ordered_id
from apps.execution.approvals import Resumption
from apps.execution.steps import StepLog
from apps.upstreams.calls import CallLog


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What every kind has. `run_id` is the Run's, and the answer's for the client; `digest` is the version's, `subject`
    None for a run without a gateway."""

    agent_id: str
    run_id: str = field(default_factory=lambda: new_ordered_id("chatcmpl-"))
    digest: str = ""
    options: RunOptions = DEFAULT
    resumption: Resumption | None = None  # the stored run to go on with
    subject: Subject | None = None
    calls: CallLog = field(default_factory=CallLog)
    steps: StepLog = field(default_factory=StepLog)

    @property
    def facts(self) -> dict[str, str]:
        """What its log lines say."""
        return {"agent": self.agent_id}


class ModuleOrder(Order, frozen=True, kw_only=True):
    """`input` is the SDK's (text or items); `prompt` is the last user text, all that a workflow takes.

    `model_settings` holds only what the request set; `extra_body` is what the SDK has no field for.
    """

    generation: Generation
    input: str | list[Any]
    prompt: str
    model_settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def facts(self) -> dict[str, str]:
        return {"agent": self.agent_id, "module_path": self.generation.module_path}


class DeclaredOrder(Order, frozen=True, kw_only=True):
    """`messages` and `parameters` are the client's, in OpenAI's words; `client_tools` are those that it runs itself."""

    declared: Declared
    messages: Sequence[Mapping[str, Any]]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    client_tools: Sequence[Mapping[str, Any]] = ()
    tool_choice: Any = None  # the client's; None where it sent none
    streamed: bool = True  # somebody waits for the first event


class PassOrder(Order, frozen=True, kw_only=True):
    """`body` is the client's own, which goes to `model` of `upstream` as it is; `path` such as /chat/completions."""

    upstream: str
    model: str
    path: str
    body: Mapping[str, Any]
    streamed: bool
