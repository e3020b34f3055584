"""What to run, in one value."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from apps.access.subject import Subject
from apps.catalog.registry import Generation
from apps.execution.approvals import Resumption
from apps.upstreams.calls import CallLog


@dataclass(frozen=True, slots=True)
class Order:
    """What to run. `input` is the SDK's (text or items); `prompt` is the last user text, all that a workflow takes.

    `model_settings` holds only what the request set; `extra_body` is what the SDK has no field for.
    """

    agent_id: str
    generation: Generation
    input: str | list[Any]
    prompt: str
    model_settings: Mapping[str, Any] = field(default_factory=dict)
    resumption: Resumption | None = None  # the stored run to go on with, instead of `input`
    subject: Subject | None = None  # None for a run without a gateway, as of check_agent --chat
    calls: CallLog = field(default_factory=CallLog)
