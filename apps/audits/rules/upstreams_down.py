from collections.abc import Iterator
from datetime import timedelta

from django.urls import reverse

from apps.audits.rule import Found, Rule, Severity
from apps.core import clock
from apps.tools.models import McpServer
from apps.upstreams.health import State
from apps.upstreams.models import UpstreamHealth

_LONG = timedelta(hours=12)
_ALIVE = timedelta(minutes=10)  # a worker that was not heard of for longer says nothing any more


def _check() -> Iterator[Found]:
    now = clock.now()
    rows = UpstreamHealth.objects.filter(upstream__enabled=True, state=State.DOWN, seen_at__gt=now - _ALIVE)
    seen: set[int] = set()
    for row in rows.filter(since__lt=now - _LONG).select_related("upstream").order_by("upstream__slug", "since"):
        if row.upstream_id in seen:
            continue
        seen.add(row.upstream_id)
        yield Found(
            f"upstream {row.upstream}",
            f"It has been down since {row.since:%Y-%m-%d %H:%M} UTC: {row.reason}",
            link=reverse("admin:upstreams_upstream_change", args=[row.upstream_id]),
        )
    for server in McpServer.objects.filter(enabled=True, state="down", state_since__lt=now - _LONG):
        yield Found(
            f"MCP server {server}",
            f"It has been down since {server.state_since:%Y-%m-%d %H:%M} UTC: {server.reason}",
            link=reverse("admin:tools_mcpserver_change", args=[server.pk]),
        )


RULE = Rule(
    "upstreams-down",
    "Servers that have been down for long",
    Severity.HIGH,
    "Mend it, or disable it so that nothing waits for it.",
    _check,
)
