"""The console's first page: what serves, what needs attention, and a first chat."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count, Q
from django.http import HttpRequest
from django.urls import reverse

from apps.access.limits.keeper import NOT_ENFORCED, keeper
from apps.access.models import ApiKey
from apps.catalog import serving_workers
from apps.catalog.models import Diagnostic, DropIn, State
from apps.console.access.matters import access_matters
from apps.console.matter import Matter
from apps.core import clock
from apps.execution.admin import OUTCOME_COLOURS, time_shown
from apps.execution.models import Outcome, Run
from apps.tools.models import McpServer
from apps.upstreams.admin.health_page import remedy as what_to_do
from apps.upstreams.health import State as Health
from apps.upstreams.health_rows import ObservedHealth, observed_health
from apps.upstreams.models import Kind, Upstream

EXPIRES_SOON = timedelta(days=14)
DAY = timedelta(hours=24)
_FAILING = (Health.DOWN, Health.DEGRADED)
SHOWN = 8  # matters of each kind; the lists have the rest


@dataclass(frozen=True, slots=True)
class Card:
    title: str
    number: int
    text: str
    link: str
    is_alarming: bool = False


@dataclass(frozen=True, slots=True)
class RecentRun:
    run: Run
    colour: str | None
    duration: str
    link: str


def dashboard(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Unfold's callback for the index page."""
    now = clock.now()
    upstreams = list(Upstream.objects.all())
    may_see_all = request.user.is_active and request.user.is_superuser
    if not (may_see_all or request.user.has_perms(_NEEDED)):
        return context
    base_url = request.build_absolute_uri("/")[:-1]
    found = observed_health(upstreams)
    faring = [(upstream, found[upstream.pk]) for upstream in upstreams]
    return context | {
        "cards": list(_cards(faring, now)),
        "matters": list(_matters(faring, now)),
        "recent_runs": [*map(_recent, Run.objects.order_by("-started_at")[:10])],
        "runs_link": reverse("admin:execution_run_changelist"),
        "first_chat": _first_chat(base_url),
    }


Faring = list[tuple[Upstream, ObservedHealth]]
_NEEDED = ["catalog.view_dropin", "upstreams.view_upstream", "access.view_apikey", "execution.view_run"]


def _cards(faring: Faring, now: datetime) -> Iterator[Card]:
    agents = DropIn.objects.aggregate(
        live=Count("pk", filter=Q(state__in=[State.LIVE, State.STALE])),
        broken=Count("pk", filter=Q(state__in=[State.BROKEN, State.STALE])),
    )
    runs = Run.objects.filter(started_at__gte=now - DAY).aggregate(
        all=Count("pk"), failed=Count("pk", filter=Q(outcome=Outcome.FAILED))
    )
    failing = sum(1 for upstream, observed in faring if upstream.enabled and observed.state in _FAILING)
    default = next((upstream.slug for upstream, _ in faring if upstream.is_default), "none")
    keys = ApiKey.objects.in_force(now).count()
    yield Card("Agents", agents["live"], _or_all_well(agents["broken"], "with a problem"), _url("catalog_dropin"),
               bool(agents["broken"]))  # fmt: skip
    yield _workers_card(now)
    yield Card("Upstreams", len(faring), f"default: {default}" + (f", {failing} failing" if failing else ""),
               _url("upstreams_upstream"), bool(failing))  # fmt: skip
    yield Card("API keys", keys, "in force", _url("access_apikey"))
    yield Card("Runs in 24 h", runs["all"], _or_all_well(runs["failed"], "failed"), _url("execution_run"),
               bool(runs["failed"]))  # fmt: skip


def _workers_card(now: datetime) -> Card:
    workers = list(serving_workers.answering(now))
    disputed = serving_workers.disputed(workers)
    if not workers:
        text = "none answers"
    elif disputed:
        text = f"disagree about {len(disputed)} {'agent' if len(disputed) == 1 else 'agents'}"
    else:
        text = "serve the same versions" if len(workers) > 1 else "answers"
    return Card("Workers", len(workers), text, _url("catalog_dropin"), bool(disputed) or not workers)


def _or_all_well(count: int, what: str) -> str:
    return f"{count} {what}" if count else f"none {what}"


def _matters(faring: Faring, now: datetime) -> Iterator[Matter]:
    if keeper.outage:
        remedy = f"Start it; it is tried again every second. It said: {keeper.outage}"
        yield Matter(NOT_ENFORCED, remedy, _url("access_limit"))
    yield from _agent_matters()
    yield from _upstream_matters(faring)
    yield from _server_matters()
    yield from access_matters(now)
    soon = ApiKey.objects.in_force(now).filter(expires_at__lte=now + EXPIRES_SOON).order_by("expires_at")
    for key in soon[:SHOWN]:
        days = (key.expires_at - now).days if key.expires_at else 0
        when = f"in {days} {'day' if days == 1 else 'days'}" if days else "today"
        remedy = "Extend it, or issue another one to whoever uses it."
        yield Matter(f"The key “{key.name}” expires {when}.", remedy, _url("access_apikey", key.pk), is_urgent=days < 3)


def _agent_matters() -> Iterator[Matter]:
    agents = DropIn.objects.exclude(state=State.GONE).values_list("agent_id", "folder_id", "pk")
    rows = {id: pk for agent_id, folder_id, pk in agents for id in (folder_id, agent_id)}  # some concern the folder
    if not rows:
        remedy = "Copy an Agents SDK module to agents/<Name>/agent.py; within two seconds it is served."
        yield Matter("There are no agents yet.", remedy, _url("catalog_dropin"), is_urgent=False)
    for one in Diagnostic.objects.order_by("severity", "-found_at")[:SHOWN]:
        link = _url("catalog_dropin", rows[one.agent_id]) if one.agent_id in rows else _url("catalog_dropin")
        yield Matter(f"{one.agent_id}: {one.reason}", one.remedy, link, is_urgent=one.severity == "error")


def _upstream_matters(faring: Faring) -> Iterator[Matter]:
    enabled = [upstream for upstream, _ in faring if upstream.enabled]
    for upstream, observed in faring:
        if upstream.enabled and observed.state in _FAILING:
            title = f"{upstream} is {observed.state}: {observed.reason}"
            link, is_down = _url("upstreams_upstream", upstream.pk), observed.state is Health.DOWN
            yield Matter(title, what_to_do(upstream, observed), link, is_urgent=is_down)
    if all(upstream.kind == Kind.DEMO for upstream in enabled):
        yield Matter(
            "Only the built-in demo answers: no real model does.",
            "Connect an LLM server: OpenAI, Ollama, LM Studio, vLLM or any OpenAI-compatible one.",
            reverse("admin:upstreams_upstream_add"),
            is_urgent=False,
        )
    elif not any(upstream.is_default for upstream in enabled):
        remedy = "Open one and press Make default, so that agents without a known model run."
        yield Matter("No enabled upstream is the default.", remedy, _url("upstreams_upstream"))


def _server_matters() -> Iterator[Matter]:
    down = McpServer.objects.filter(enabled=True, state="down").exclude(parent__enabled=False)
    for server in down.order_by("state_since")[:SHOWN]:
        link = _url("tools_mcpserver", server.pk)
        yield Matter(f"MCP server {server}: {server.reason}", "Mend it, then press Connect anew; or disable it.", link)


def _recent(run: Run) -> RecentRun:
    return RecentRun(
        run, OUTCOME_COLOURS[Outcome(run.outcome)], time_shown(run.duration_ms), _url("execution_run", run.pk)
    )


def _first_chat(base_url: str) -> str:
    live = DropIn.objects.filter(state__in=[State.LIVE, State.STALE]).exclude(settings__enabled=False)
    model = live.values_list("agent_id", flat=True).first() or "default/sampleagent"
    return (
        f"curl {base_url}/v1/chat/completions \\\n"
        f'  -H "x-api-key: $GATEWAY_API_KEY" -H "content-type: application/json" \\\n'
        f'  -d \'{{"model": "{model}", "messages": [{{"role": "user", "content": "Hello!"}}]}}\''
    )


def _url(model: str, key: object = None) -> str:
    if key is None:
        return reverse(f"admin:{model}_changelist")
    return reverse(f"admin:{model}_change", args=[key])
