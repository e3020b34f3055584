"""How an agent is run, as its operator set it: plain values of AgentSettings, DeclaredAgent and Namespace."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from apps.catalog.models import Namespace, RunSettings
from apps.core import live_config
from apps.upstreams.models import Upstream
from apps.upstreams.routing import ModelRef


@dataclass(frozen=True, slots=True)
class RunOptions:
    """Of one agent. Times are in seconds; None means the gateway's own setting."""

    model: ModelRef = field(default_factory=lambda: ModelRef("", ""))
    parameters: Mapping[str, Any] = field(default_factory=dict)  # in OpenAI's words; a request's own win
    max_turns: int | None = None
    run_timeout: float | None = None
    drains: bool = False  # goes on when the client leaves
    listed: bool = True


DEFAULT = RunOptions()


def run_options(row: RunSettings) -> RunOptions:
    return RunOptions(
        model=ModelRef(row.upstream.slug if row.upstream else "", row.model),
        parameters=_flat(row.parameters),
        max_turns=row.max_turns,
        run_timeout=row.run_timeout,
        drains=row.on_disconnect == RunSettings.Disconnect.DRAIN,
        listed=row.listed,
    )


def _flat(parameters: object) -> Mapping[str, Any]:
    """`extra_body` is how operators name what OpenAI has no word for, as its client does: here it is like the rest."""
    if not isinstance(parameters, dict):
        return {}
    extra = parameters.get("extra_body")
    known = {name: value for name, value in parameters.items() if name != "extra_body"}
    return {**extra, **known} if isinstance(extra, dict) else known


def _load_namespaces() -> Mapping[str, ModelRef]:
    rows = Namespace.objects.select_related("upstream")
    return {row.name: ModelRef(row.upstream.slug if row.upstream else "", row.model) for row in rows}


NAMESPACES = live_config.section("catalog.namespaces", _load_namespaces, reads=[Namespace, Upstream])


def namespace_default(agent_id: str) -> ModelRef:
    """The model of the agent's namespace; an empty reference where none is set. Reads memory only."""
    return NAMESPACES.current().get(agent_id.partition("/")[0], DEFAULT.model)
