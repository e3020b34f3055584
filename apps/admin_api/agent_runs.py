"""How agents fared lately, for many of them at once: their last run, and what the runs of a day come to."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from datetime import datetime, timedelta

from django.db.models import F, Model, OuterRef, QuerySet, Subquery, Sum, Value
from django.db.models.functions import Concat

from apps.catalog.kinds import Kind
from apps.catalog.models import DeclaredAgent, DropIn
from apps.execution.models import Run, RunBucket
from apps.upstreams.models import UpstreamModel

DAY = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Day:
    """Sums over the buckets that began in the last 24 hours. The error rate is null where nothing ran."""

    runs: int = 0
    failed: int = 0
    refused: int = 0
    cancelled: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0

    @property
    def error_rate(self) -> float | None:
        return round(self.failed / self.runs, 4) if self.runs else None


_SUMS = tuple(one.name for one in fields(Day))


def last_day(agent_ids: Collection[str], now: datetime) -> Mapping[str, Day]:
    """By agent id; those of which nothing ran are not in it. One query."""
    rows = RunBucket.objects.filter(agent_id__in=agent_ids, began_at__gte=now - DAY).order_by()
    summed = rows.values("agent_id").annotate(**{f"all_{name}": Sum(name) for name in _SUMS})
    columns = summed.values_list("agent_id", *(f"all_{name}" for name in _SUMS))
    return {agent_id: Day(*sums) for agent_id, *sums in columns}


def last_runs(agents: Mapping[str, Kind]) -> Mapping[str, Run]:
    """By agent id. A query for each kind that there is, and one for the runs: the last of each by its index, because a
    grouping would read all runs of these agents."""
    found: list[str] = []
    for kind in set(agents.values()):
        ids = [agent_id for agent_id, its in agents.items() if its == kind]
        newest = Run.objects.filter(agent_id=OuterRef("known_as")).order_by("-started_at").values("pk")[:1]
        rows = _rows(kind).filter(known_as__in=ids).annotate(newest=Subquery(newest))
        found += rows.values_list("newest", flat=True)
    return {run.agent_id: run for run in Run.objects.filter(pk__in=list(filter(None, found)))}


def _rows(kind: Kind) -> "QuerySet[Model]":
    """Of agents of a kind, with the id `known_as`."""
    match kind:
        case "drop_in":
            return DropIn.objects.order_by().annotate(known_as=F("agent_id"))
        case "declared":
            return DeclaredAgent.objects.order_by().annotate(known_as=Concat("namespace", Value("/"), "name"))
        case "model":
            return UpstreamModel.objects.order_by().annotate(known_as=Concat("upstream__slug", Value("/"), "name"))
