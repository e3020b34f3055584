"""What is measured: in Prometheus's text, and in JSON as totals or in full. All three are written from `families()`."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final, Literal

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from ninja import Query, Router, Schema
from pydantic import ConfigDict, Field

from apps.admin_api.answers import NOT_FOUND, REFUSALS, Text
from apps.admin_api.authentication import OperatorAuth
from apps.core import clock
from apps.core.errors import NotFound
from apps.observability.family import Family, folded
from apps.observability.metrics import RULES, exposition, families

router = Router()

# Labels that may have very many values: totals are over all of them.
_OPEN: Final = frozenset(
    {"agent", "error_type", "gen_ai_agent_id", "gen_ai_provider_name", "gen_ai_request_model", "model", "server"}
    | {"tool", "upstream"}
)
_OURS: Final = ("gateway_", "gen_ai_")
_TOOLS_IN_TOTALS: Final = 50


class Measured(Schema):
    """A value, under the name and labels that it has in Prometheus; null where it is no number."""

    name: str
    labels: dict[str, str]
    value: float | None


class Metric(Schema):
    name: str = Field(description="Of the family: a counter's samples have `_total` behind it.")
    type: Literal["counter", "gauge", "histogram", "summary", "info", "stateset", "unknown"]
    help: str
    samples: list[Measured]


class ToolUse(Schema):
    """Calls of a tool by outcome, and how long those took that were made."""

    tool: str
    source: str
    calls: dict[str, int]
    min_seconds: float | None = None
    average_seconds: float | None = None
    max_seconds: float | None = None


_RUNS = {"name": "gateway_runs_total", "labels": {"outcome": "completed"}, "value": 128.0}
_EXAMPLE: dict[str, Any] = {
    "at": "2026-01-01T12:00:00Z",
    "workers": 2,
    "tools": [
        {
            "tool": "get_weather",
            "source": "sdk-native",
            "calls": {"ok": 41, "error": 1},
            "min_seconds": 0.12,
            "average_seconds": 0.3,
            "max_seconds": 2.4,
        }
    ],
    "metrics": [{"name": "gateway_runs", "type": "counter", "help": "Runs that ended.", "samples": [_RUNS]}],
}


class Metrics(Schema):
    """Of all workers together. `tools` are those that were called, the busiest first."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    at: datetime
    workers: int
    tools: list[ToolUse]
    metrics: list[Metric]


class Wanted(Schema):
    name: Text = Field("", description="Only metrics whose names begin so, such as `gen_ai_`.")


@router.get(
    "/metrics",
    response={200: Metrics, **REFUSALS},
    auth=OperatorAuth("execution.view_run"),
    summary="Metrics as JSON: totals",
)
def totals(request: HttpRequest) -> Metrics:  # noqa: ARG001
    """What the gateway itself measures, over all agents, models, upstreams and tools; of histograms sum and count. Of
    tools the 50 that were called most. Small, however many agents there are; `/admin/metrics` has everything."""
    found = families()
    ours = [folded(one, RULES.of(one), without=_OPEN) for one in found if one.name.startswith(_OURS)]
    return _told(found, ours, _tools(found)[:_TOOLS_IN_TOTALS])


@router.get(
    "/admin/metrics",
    response={200: Metrics, **REFUSALS},
    auth=OperatorAuth("execution.view_run"),
    summary="Metrics as JSON: everything",
)
def full(request: HttpRequest, wanted: Query[Wanted]) -> Metrics:  # noqa: ARG001
    """Every metric and sample that `/metrics/prometheus` has, of Django and the process too."""
    found = families()
    return _told(found, (one for one in found if one.name.startswith(wanted.name)), _tools(found))


@router.get(
    "/metrics/prometheus",
    response={200: None, **REFUSALS, **NOT_FOUND},
    openapi_extra={
        "responses": {
            200: {
                "content": {
                    "text/plain": {
                        "schema": {"type": "string"},
                        "example": "# HELP gateway_runs_total Runs that ended.\n# TYPE gateway_runs_total counter\n"
                        'gateway_runs_total{agent="default/concierge",model="gpt-oss",outcome="completed",'
                        'upstream="ollama"} 128.0\n',
                    }
                }
            }
        }
    },
    auth=OperatorAuth("execution.view_run"),
    summary="Metrics in Prometheus's text format",
)
def prometheus(request: HttpRequest) -> HttpResponse:  # noqa: ARG001
    """Of all workers together. GATEWAY_PROMETHEUS_ENABLED=false turns it off."""
    if not settings.GATEWAY_PROMETHEUS_ENABLED:
        raise NotFound("Metrics are off. GATEWAY_PROMETHEUS_ENABLED=true turns them on.")
    text, content_type = exposition()
    return HttpResponse(text, content_type=content_type)


def _told(found: Sequence[Family], told: Iterable[Family], tools: list[ToolUse]) -> Metrics:
    (workers,) = [value for family in found if family.name == "gateway_workers" for _, _, value in family.samples]
    return Metrics(at=clock.now(), workers=int(workers), tools=tools, metrics=[_metric(one) for one in told])


def _metric(family: Family) -> Metric:
    samples = [
        Measured.model_construct(name=name, labels=dict(labels), value=value if math.isfinite(value) else None)
        for name, labels, value in family.samples
    ]
    return Metric.model_construct(name=family.name, type=family.kind, help=family.help, samples=samples)


def _tools(found: Sequence[Family]) -> list[ToolUse]:
    values = {
        (name, dict(labels)["tool"], dict(labels)["source"]): value
        for family in found
        if family.name.startswith("gateway_tool_call_")
        for name, labels, value in family.samples
        if not name.endswith("_bucket")
    }
    calls: dict[tuple[str, str], dict[str, int]] = defaultdict(dict)
    for family in found:
        if family.name == "gateway_tool_calls":
            for _, labels, value in family.samples:
                of = dict(labels)
                calls[of["tool"], of["source"]][of["outcome"]] = int(value)
    busiest = sorted(calls.items(), key=lambda one: (-sum(one[1].values()), one[0]))
    return [_tool_use(tool, source, outcomes, values) for (tool, source), outcomes in busiest]


def _tool_use(tool: str, source: str, outcomes: dict[str, int], values: dict[tuple[str, str, str], float]) -> ToolUse:
    count = values.get(("gateway_tool_call_duration_seconds_count", tool, source))
    total = values.get(("gateway_tool_call_duration_seconds_sum", tool, source), 0.0)
    return ToolUse(
        tool=tool,
        source=source,
        calls=outcomes,
        min_seconds=values.get(("gateway_tool_call_min_seconds", tool, source)),
        average_seconds=total / count if count else None,
        max_seconds=values.get(("gateway_tool_call_max_seconds", tool, source)),
    )
