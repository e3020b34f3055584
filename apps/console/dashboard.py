"""The console's first page: is the gateway well, what needs attention, and what ran. Each panel by its permission."""

from collections.abc import Iterable, Iterator
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone
from django.views.decorators.http import require_GET

from apps.catalog.models import State
from apps.console.panels import lists
from apps.console.panels.attention import matters
from apps.console.panels.charts import charts
from apps.console.panels.history import RANGES, range_of
from apps.console.panels.look import Look
from apps.console.panels.matters import url
from apps.console.panels.tiles import tiles
from apps.console.panels.verdict import verdict


def dashboard(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Unfold's callback for the index page."""
    return context | _shown(request)


@require_GET
def dashboard_now(request: HttpRequest) -> HttpResponse:
    """The page without what surrounds it: the open page asks for it again and again.

    Whose session has ended is refused, not led to the login page: that would appear in the middle of the old one.
    """
    if not (admin.site.has_permission(request) and (shown := _shown(request))):
        raise PermissionDenied
    return TemplateResponse(request, "console/dashboard/now.html", shown)


def _shown(request: HttpRequest) -> dict[str, Any]:
    """Nothing for whom may see none of the parts: the page then lists what they may see."""
    look = Look(request.user)
    shown = tiles(look)
    may_see_runs = look.may("execution.view_run")
    if not shown and not may_see_runs:
        return {}
    found = matters(look)
    panels: dict[str, Any] = {
        "is_dashboard": True,
        "looked_at": timezone.localtime(look.now),
        "verdict": verdict(shown, found),
        "tiles": shown,
        "matters": found,
        "first_chat": _first_chat(look, request.build_absolute_uri("/")[:-1]),
        "sees_runs": may_see_runs,
        "sees_failures": look.may("observability.view_errorevent"),
    }
    if may_see_runs:
        panels |= _runs(look, request.GET.get("range", ""), request.GET.get("agent", ""))
    if panels["sees_failures"]:
        panels |= {"failures": list(lists.last_failures()), "failures_link": lists.all_failures()}
    return panels


def _runs(look: Look, range_key: str, agent: str) -> dict[str, Any]:
    chosen = range_of(range_key)
    drawn = charts(chosen, look.now, agent or None)
    return {
        "ranges": RANGES,
        "range": chosen,
        "agent": agent,
        "agents": _agents(look, agent),
        "charts": drawn,
        "charts_json": drawn.for_script() if drawn else None,
        "zone": timezone.get_current_timezone_name(),
        "top_lists": lists.top_lists(look.of_day),
        "recent_runs": lists.last_runs(),
        "runs_link": url("execution_run"),
    }


def _agents(look: Look, chosen: str) -> Iterable[str]:
    """Those that ran today, those that there are as far as the viewer may know, and the one that is chosen."""
    known = set(look.of_day)
    if look.may("catalog.view_dropin"):
        known.update(one.agent_id for one in look.folders)
    if look.may("catalog.view_declaredagent"):
        known.update(look.declared)
    return sorted(known | ({chosen} if chosen else set()))


def _first_chat(look: Look, base_url: str) -> str:
    """A command to copy, with an agent that serves."""
    model = next(_serving(look), "default/sampleagent")
    return (
        f"curl {base_url}/v1/chat/completions \\\n"
        f'  -H "x-api-key: $GATEWAY_API_KEY" -H "content-type: application/json" \\\n'
        f'  -d \'{{"model": "{model}", "messages": [{{"role": "user", "content": "Hello!"}}]}}\''
    )


def _serving(look: Look) -> Iterator[str]:
    if look.may("catalog.view_dropin"):
        yield from (one.agent_id for one in look.folders if one.serves)
    if look.may("catalog.view_declaredagent"):
        yield from (id for id, one in look.declared.items() if one.enabled and one.state is State.LIVE)
