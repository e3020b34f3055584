"""The live page: a table that static/console/live.js fills from a WebSocket."""

from dataclasses import dataclass
from typing import Final

from django.conf import settings
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse

from apps.console.live.watcher import NEEDED
from apps.observability.feed import Kind


@dataclass(frozen=True, slots=True)
class Shown:
    """How a kind of event looks; its colour is in static/console/live.css."""

    kind: str
    word: str
    icon: str


KINDS: Final = [
    Shown(Kind.RUN, "Run", "play_circle"),
    Shown(Kind.STEP, "Step", "build"),
    Shown(Kind.REQUEST, "Request", "swap_horiz"),
    Shown(Kind.DISCOVERY, "Discovery", "travel_explore"),
    Shown(Kind.HEALTH, "Health", "monitor_heart"),
    Shown(Kind.ACCESS, "Access", "shield"),
    Shown(Kind.CONFIGURATION, "Configuration", "settings"),
    Shown(Kind.PROBLEM, "Problem", "warning"),
]


def live_page(request: HttpRequest) -> HttpResponse:
    """For staff who may view runs."""
    if not request.user.has_perm(NEEDED):
        raise PermissionDenied
    return TemplateResponse(
        request,
        "console/live.html",
        {
            **admin.site.each_context(request),
            "title": "Live",
            "kinds": KINDS,
            "feed": f"{reverse('console:live')}feed/",
            "run_link": reverse("admin:execution_run_change", args=["RUN"]),
            "login_link": f"{reverse('admin:login')}?next={reverse('console:live')}",
            "log_level": settings.GATEWAY_LOG_LEVEL,
            "hides_info": settings.GATEWAY_LOG_LEVEL in ("WARNING", "ERROR", "CRITICAL"),
        },
    )


live_page_view = admin.site.admin_view(live_page)
