"""/upstreams: the LLM servers, how they fare, and their models read anew."""

from dataclasses import asdict
from datetime import datetime
from typing import Annotated

from django.db.models import Count
from django.http import HttpRequest
from ninja import Router, Schema
from pydantic import ConfigDict, Field

from apps.admin_api.answers import NOT_FOUND, REFUSALS, Body, Text
from apps.admin_api.authentication import OperatorAuth
from apps.core.errors import NotFound
from apps.upstreams import refreshing
from apps.upstreams.asking import shown_url
from apps.upstreams.health import State
from apps.upstreams.health_rows import ObservedHealth, observed_health
from apps.upstreams.models import Kind, Upstream

router = Router()

# Written out in place: schemas share one space of names in the description, and a Kind and a State are there already.
KindShown = Annotated[str, Field(json_schema_extra={"enum": list(Kind.values)})]
StateShown = Annotated[str, Field(json_schema_extra={"enum": [str(state) for state in State]})]

_DOWN = {
    "state": "down",
    "reason": "Nothing listens at http://10.0.0.7:8080/v1; is the server started?",
    "since": "2026-11-20T09:30:00Z",
}


class WorkerView(Schema):
    """How it fares for one worker: by the answers that this worker got from it."""

    worker: str = Field(description="Its host and process.")
    state: StateShown
    reason: str
    since: datetime
    running: int = Field(description="Its calls there a few seconds ago; 0 where their number is not limited.")
    waiting: int = Field(description="Its calls that waited for a place there.")


class UpstreamShown(Schema):
    """An LLM server. Nothing of it is a secret."""

    name: str
    kind: KindShown
    base_url: str = Field(description="Without a user name, password or query.")
    enabled: bool
    default: bool
    default_model: str
    exposes_models: bool = Field(description="Whether clients see its models as name/model.")
    models: int = Field(description="That it listed when it was read last.")
    models_read_at: datetime | None
    state: StateShown = Field(description="For all workers together; degraded where they disagree.")
    reason: str = Field(description="One sentence; empty while all is well.")
    since: datetime | None
    workers: list[WorkerView] = Field(description="Of the workers that answer and know something of it.")


class Upstreams(Schema):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "data": [
                        {
                            "name": "gpu-box",
                            "kind": "llama_cpp",
                            "base_url": "http://10.0.0.7:8080/v1",
                            "enabled": True,
                            "default": True,
                            "default_model": "qwen3-30b",
                            "exposes_models": False,
                            "models": 1,
                            "models_read_at": "2026-11-20T09:25:00Z",
                            **_DOWN,
                            "workers": [{"worker": "gateway-1:12", **_DOWN, "running": 0, "waiting": 0}],
                        }
                    ]
                }
            ]
        }
    )

    data: list[UpstreamShown]


class WhichUpstreams(Body):
    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "gpu-box"}, {}]})

    name: Text | None = Field(None, description="Only this one, enabled or not; all enabled ones without it.")


class Refreshed(Schema):
    """What came of asking one. `error` is empty when all went well; else the list that was known stays."""

    name: str
    models: list[str]
    error: str


class RefreshedAll(Schema):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "data": [
                        {"name": "ollama", "models": ["qwen3:8b"], "error": ""},
                        {"name": "gpu-box", "models": [], "error": _DOWN["reason"]},
                    ]
                }
            ]
        }
    )

    data: list[Refreshed]


@router.get(
    "/upstreams",
    response={200: Upstreams, **REFUSALS},
    auth=OperatorAuth("upstreams.view_upstream"),
    summary="The LLM servers, and how they fare",
)
def list_upstreams(request: HttpRequest) -> Upstreams:  # noqa: ARG001
    """Healthy, degraded, down or unknown, with the reason, by the answers that all workers got from them."""
    rows = list(Upstream.objects.annotate(model_count=Count("models")))
    found = observed_health(rows)
    return Upstreams(data=[_shown(row, found[row.pk]) for row in rows])


@router.post(
    "/upstreams/refresh",
    response={200: RefreshedAll, **REFUSALS, **NOT_FOUND},
    auth=OperatorAuth("upstreams.change_upstream"),
    summary="Read the models of LLM servers now",
)
def refresh_upstreams(request: HttpRequest, wanted: WhichUpstreams | None = None) -> RefreshedAll:  # noqa: ARG001
    """Asks them together and stores what they list; answers within half a minute, with what came of each.

    By themselves, workers do so every GATEWAY_UPSTREAM_REFRESH seconds.
    """
    outcomes = refreshing.refresh(_wanted(wanted.name if wanted else None))
    return RefreshedAll(
        data=[
            Refreshed(name=one.upstream.slug, models=list(one.models), error=one.error.message if one.error else "")
            for one in outcomes
        ]
    )


def _wanted(name: str | None) -> list[Upstream]:
    """Raises NotFound."""
    if name is None:
        return list(Upstream.objects.filter(enabled=True))
    found = Upstream.objects.filter(slug=name).first()
    if found is None:
        raise NotFound(f"There is no upstream '{name}'. GET /upstreams lists them.", param="name")
    return [found]


def _shown(row: Upstream, observed: ObservedHealth) -> UpstreamShown:
    return UpstreamShown(
        name=row.slug,
        kind=row.kind,
        base_url=shown_url(row.base_url),
        enabled=row.enabled,
        default=row.is_default,
        default_model=row.default_model,
        exposes_models=row.exposes_models,
        models=row.model_count,  # type: ignore[attr-defined]  # annotated
        models_read_at=row.models_read_at,
        state=observed.state,
        reason=observed.reason,
        since=observed.since,
        workers=[WorkerView(**asdict(view)) for view in observed.views],
    )
