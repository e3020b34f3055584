"""The last runs of many agents at once."""

from collections.abc import Mapping

from django.db.models import F, Model, OuterRef, QuerySet, Subquery, Value
from django.db.models.functions import Concat

from apps.catalog.kinds import Kind
from apps.catalog.models import DeclaredAgent, DropIn
from apps.execution.models import Run
from apps.upstreams.models import UpstreamModel


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
