"""/agents: every agent and model that there is. /admin/agents: the same in full. /agents/refresh: look again now."""

import os
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from django.http import HttpRequest
from ninja import Query, Router, Schema
from pydantic import ConfigDict, Field

from apps.admin_api import agent_runs
from apps.admin_api.answers import REFUSALS, Page, Paging, Text
from apps.admin_api.authentication import OperatorAuth
from apps.catalog import refreshing, registry, serving_workers
from apps.catalog.declared import Declared, declared_agents
from apps.catalog.inspection import problem_values
from apps.catalog.kinds import Kind, kind_of, models_of
from apps.catalog.models import SHORT, ServingWorker, State
from apps.catalog.options import DEFAULT as DEFAULT_LOADING
from apps.catalog.pass_through import PassThrough
from apps.catalog.registry import Entry
from apps.core import clock
from apps.execution import buckets
from apps.execution.models import Outcome, Run
from apps.upstreams.routing import ModelRef

router = Router()

_DAY = timedelta(hours=24)

# Written out in place: schemas share one space of names in the description.
StateOfAgent = Annotated[str, Field(json_schema_extra={"enum": [State.LIVE, State.STALE, State.BROKEN]})]
OutcomeOfRun = Annotated[str, Field(json_schema_extra={"enum": list(Outcome.values)})]

_LISTED: dict[str, Any] = {
    "id": "default/concierge",
    "kind": "drop_in",
    "name": "Concierge",
    "description": "Answers guests' questions.",
    "state": "live",
    "enabled": True,
    "version": "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae",
    "upstream": "gpu-box",
    "model": "qwen3-30b",
    "problems": 0,
}
_FULL: dict[str, Any] = {
    **_LISTED,
    "aliases": ["front-desk"],
    "export": "agent",
    "graph": [
        {
            "name": "Concierge",
            "model": "gpt-5",
            "model_of_its_own": False,
            "tools": ["book_table"],
            "gateway_tools": [],
            "handoffs": ["Spa"],
            "mcp_servers": [],
        }
    ],
    "settings": {
        "enabled": True,
        "listed": True,
        "upstream": "",
        "model": "",
        "parameters": {"temperature": 0.2},
        "max_turns": None,
        "run_timeout": None,
        "on_disconnect": "cancel",
        "dry_run": False,
        "build_per_run": False,
        "own_client": False,
        "stage": None,
    },
    "workers": [{"worker": "gateway-1:12", "version": "2c26b46b68ff", "is_the_same": True}],
    "diagnostics": [],
    "last_run": {
        "id": "chatcmpl-9f86d081884c7d659a2feaa0c55ad015",
        "started_at": "2026-11-25T12:00:00Z",
        "outcome": "completed",
        "error_code": "",
        "duration_ms": 1204.9,
    },
    "last_day": {
        "runs": 120,
        "failed": 3,
        "refused": 1,
        "cancelled": 2,
        "error_rate": 0.025,
        "prompt_tokens": 90_210,
        "completion_tokens": 8_400,
        "cost_usd": 0.31,
    },
}


class AgentListed(Schema):
    """Of the worker that answers."""

    model_config = ConfigDict(json_schema_extra={"examples": [_LISTED]})

    id: str = Field(description="What clients call the model.")
    kind: Kind = Field(description="A folder's agent, a declared one, or an upstream's model as it is.")
    name: str
    description: str
    state: StateOfAgent = Field(description="stale: the newest edit does not load, the version before it serves.")
    enabled: bool = Field(description="Whether clients are answered; of declared agents, whether it is published.")
    version: str = Field(description="The digest of what serves, as runs have it; empty where nothing does.")
    upstream: str = Field(description="That answers now; empty for a model object of the module's own.")
    model: str = Field(description="That answers now; empty where nothing can.")
    problems: int = Field(description="GET /admin/agents/errors tells them.")


class NodeShown(Schema):
    """An agent of the SDK that a run may come to."""

    name: str
    model: str = Field(description="That it asks for; empty: the default.")
    model_of_its_own: bool
    tools: list[str]
    gateway_tools: list[str] = Field(description="Those of the tools that the gateway lends.")
    handoffs: list[str]
    mcp_servers: list[str]


class SettingsShown(Schema):
    """What operators set. Null: the gateway's own setting, or nothing of this kind of agent."""

    enabled: bool
    listed: bool
    upstream: str
    model: str
    parameters: dict[str, Any]
    max_turns: int | None
    run_timeout: float | None
    on_disconnect: Literal["cancel", "drain"]
    dry_run: bool | None
    build_per_run: bool | None
    own_client: bool | None
    stage: str | None = Field(description="Of declared agents: draft, live or disabled.")


class ServedBy(Schema):
    """What a worker serves, by its own word of the last half minute."""

    worker: str = Field(description="Its host and process.")
    version: str = Field(description="The first digits of its digest; empty when no version loads there.")
    is_the_same: bool = Field(description="As in the worker that answers.")


class DiagnosticShown(Schema):
    code: str
    severity: Literal["error", "warning"]
    reason: str
    remedy: str
    file: str
    line: int | None


class LastRun(Schema):
    id: str
    started_at: datetime
    outcome: OutcomeOfRun
    error_code: str
    duration_ms: float


class LastDay(Schema):
    """Of the last 24 hours, to ten minutes."""

    runs: int
    failed: int
    refused: int
    cancelled: int
    error_rate: float | None = Field(description="Failed of all, from 0 to 1; null when nothing ran.")
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float


class AgentInFull(AgentListed):
    model_config = ConfigDict(json_schema_extra={"examples": [_FULL]})

    aliases: list[str]
    export: str = Field(description="What a module offers: agent, factory or workflow.")
    graph: list[NodeShown] = Field(description="The entry first, then what its handoffs and tools lead to.")
    settings: SettingsShown
    workers: list[ServedBy] = Field(description="Of a folder's agent: those that gave a sign of life lately.")
    diagnostics: list[DiagnosticShown]
    last_run: LastRun | None
    last_day: LastDay


class AgentFilter(Schema):
    kind: Kind | None = None
    state: Literal["live", "stale", "broken"] | None = None
    enabled: bool | None = None
    namespace: Text | None = Field(None, description="The part of the id before the slash.")
    q: Text | None = Field(None, description="A part of the id, the name or the description.")


class AgentPaging(Schema):
    limit: int = Field(100, ge=1, le=1000, description="Agents of a page.")
    offset: int = Field(0, ge=0, le=1_000_000, description="Agents before the page.")


class AgentsRefreshed(Schema):
    """Ids of folders' agents. What failed goes on with its last good version, if it has one."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "added": ["labs/planner"],
                    "reloaded": ["default/concierge"],
                    "removed": [],
                    "failed": [],
                    "agents": 14,
                    "worker": 4711,
                    "discovery": "watch",
                }
            ]
        }
    )

    added: list[str]
    reloaded: list[str]
    removed: list[str]
    failed: list[str] = Field(description="GET /admin/agents/errors says why.")
    agents: int = Field(description="That there are now, of every kind.")
    worker: int = Field(description="The id of the process that looked.")
    discovery: Literal["watch", "scan", "off"] = Field(
        description="How workers follow the folders by themselves; off: the others have not looked."
    )


@router.get(
    "/agents",
    response={200: Page[AgentListed], **REFUSALS},
    auth=OperatorAuth("catalog.view_dropin"),
    summary="The agents and models",
)
def list_agents(
    request: HttpRequest,  # noqa: ARG001
    wanted: Query[AgentFilter],
    paging: Query[AgentPaging],
) -> dict[str, Any]:
    """All that clients may name, by id: folders' agents, declared ones, and upstreams' models; disabled and broken ones
    too. Asks no database."""
    found = _matching(wanted)
    shown = found[paging.offset : paging.offset + paging.limit]
    models = models_of(shown)
    return {"data": [_listed(entry, models[entry.agent_id]) for entry in shown], "total": len(found)}


@router.post(
    "/agents/refresh",
    response={200: AgentsRefreshed, **REFUSALS},
    auth=OperatorAuth("catalog.change_dropin"),
    summary="Look at the agents' folders now",
)
def refresh_agents(request: HttpRequest) -> AgentsRefreshed:  # noqa: ARG001
    """The worker that answers loads what is new or changed, and says what came of it.

    By themselves workers do so when a file is saved. Requests that come at once share a look; nothing that is being
    answered waits for it. A folder that failed is tried again when something in it changes.
    """
    found = refreshing.refresh()
    return AgentsRefreshed(
        added=list(found.added),
        reloaded=list(found.reloaded),
        removed=list(found.removed),
        failed=list(found.failed),
        agents=len(registry.entries()),
        worker=os.getpid(),
        discovery=registry.discovery_mode().name,
    )


@router.get(
    "/admin/agents",
    response={200: Page[AgentInFull], **REFUSALS},
    auth=OperatorAuth("catalog.view_dropin"),
    summary="The agents in full",
)
def list_agents_in_full(
    request: HttpRequest,  # noqa: ARG001
    wanted: Query[AgentFilter],
    paging: Query[Paging],
) -> dict[str, Any]:
    """With what each is made of, its settings, which worker serves which version, what is wrong, and how it fared."""
    found = _matching(wanted)
    shown = found[paging.offset : paging.offset + paging.limit]
    models, now = models_of(shown), clock.now()
    workers = list(serving_workers.answering(now))
    last_runs = agent_runs.last_runs({entry.agent_id: kind_of(entry) for entry in shown})
    days = buckets.of_agents(now - _DAY, now, [entry.agent_id for entry in shown])
    return {
        "data": [
            {
                **_listed(entry, models[entry.agent_id]),
                "aliases": entry.aliases,
                "export": entry.generation.export.kind if entry.generation else "",
                "graph": _graph(entry),
                "settings": _settings(entry),
                "workers": _workers(entry, workers),
                "diagnostics": [problem_values(one) for one in entry.problems],
                "last_run": _last_run(last_runs.get(entry.agent_id)),
                "last_day": _last_day(days.get(entry.agent_id, buckets.Counts())),
            }
            for entry in shown
        ],
        "total": len(found),
    }


def _matching(wanted: AgentFilter) -> list[Entry]:
    text = wanted.q.casefold() if wanted.q else ""
    return [
        entry
        for entry in registry.entries().values()
        if wanted.kind in (None, kind_of(entry))
        and wanted.state in (None, entry.state)
        and wanted.enabled in (None, entry.enabled)
        and wanted.namespace in (None, entry.agent_id.partition("/")[0])
        and text in f"{entry.agent_id}\n{entry.name}\n{entry.description}".casefold()
    ]


def _listed(entry: Entry, model: ModelRef) -> dict[str, Any]:
    return {
        "id": entry.agent_id,
        "kind": kind_of(entry),
        "name": entry.name,
        "description": entry.description,
        "state": entry.state,
        "enabled": entry.enabled,
        "version": entry.digest,
        "upstream": model.upstream,
        "model": model.model,
        "problems": len(entry.problems),
    }


def _graph(entry: Entry) -> list[dict[str, Any]]:
    match entry.serves:
        case Declared() as one:
            return [_node(one.name, one.options.model.model, tools=one.tools, gateway_tools=one.tools)]
        case PassThrough() as one:
            return [_node(one.model, one.model)]
        case None:
            return []
        case generation:
            return [
                _node(
                    one.name,
                    one.model,
                    model_of_its_own=bool(one.own_model),
                    tools=one.tools,
                    gateway_tools=one.gateway_tools,
                    handoffs=one.handoffs,
                    mcp_servers=one.mcp_servers,
                )
                for one in generation.nodes
            ]


def _node(name: str, model: str, *, model_of_its_own: bool = False, **names: tuple[str, ...]) -> dict[str, Any]:
    lists = ("tools", "gateway_tools", "handoffs", "mcp_servers")
    return {
        "name": name,
        "model": model,
        "model_of_its_own": model_of_its_own,
        **{one: list(names.get(one, ())) for one in lists},
    }


def _settings(entry: Entry) -> dict[str, Any]:
    options, kind = entry.options, kind_of(entry)
    loading: dict[str, Any] = dict.fromkeys(("dry_run", "build_per_run", "own_client"))
    if kind == "drop_in":
        set_by_operators = registry.SETTINGS.current().get(entry.agent_id)
        chosen = set_by_operators.load if set_by_operators else DEFAULT_LOADING
        loading = {name: getattr(chosen, name) for name in loading}
    return {
        "enabled": entry.enabled,
        "listed": options.listed,
        "upstream": options.model.upstream,
        "model": options.model.model,
        "parameters": dict(options.parameters),
        "max_turns": options.max_turns,
        "run_timeout": options.run_timeout,
        "on_disconnect": "drain" if options.drains else "cancel",
        **loading,
        "stage": declared_agents()[entry.agent_id].stage if kind == "declared" else None,
    }


def _workers(entry: Entry, workers: list[ServingWorker]) -> list[dict[str, Any]]:
    return [
        {
            "worker": f"{one.host}:{one.pid}",
            "version": one.versions[entry.agent_id],
            "is_the_same": one.versions[entry.agent_id] == entry.digest[:SHORT],
        }
        for one in workers
        if kind_of(entry) == "drop_in" and entry.agent_id in one.versions
    ]


def _last_run(run: Run | None) -> dict[str, Any] | None:
    names = ("id", "started_at", "outcome", "error_code", "duration_ms")
    return {name: getattr(run, name) for name in names} if run else None


def _last_day(day: buckets.Counts) -> dict[str, Any]:
    share = day.failed_share
    return {
        **{name: getattr(day, name) for name in LastDay.model_fields if name != "error_rate"},
        "error_rate": None if share is None else round(share, 4),
    }
