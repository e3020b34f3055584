"""The console's sidebar: what happens, what serves, who may, what the audits found."""

from typing import Any

from django.http import HttpRequest
from django.urls import reverse


def navigation(request: HttpRequest) -> list[dict[str, Any]]:
    """Unfold's shape: https://unfoldadmin.com/docs/configuration/settings/"""
    return [
        {
            "items": [
                _item("Dashboard", "space_dashboard", "admin:index"),
                _page(request, "Live", "sensors", "console:live", "execution.view_run"),
                _list(request, "Runs", "history", "execution", "run"),
                _list(request, "Errors", "error", "observability", "errorevent"),
                _list(request, "Approvals", "approval", "execution", "approval"),
                _list(request, "Recording", "settings_backup_restore", "execution", "recording"),
            ]
        },
        {
            "title": "Serving",
            "items": [
                _list(request, "Agents", "smart_toy", "catalog", "dropin"),
                _list(request, "Declared agents", "edit_square", "catalog", "declaredagent"),
                _list(request, "Namespaces", "folder_open", "catalog", "namespace"),
                _list(request, "Tools", "construction", "tools", "tool"),
                _list(request, "MCP servers", "hub", "tools", "mcpserver"),
                _list(request, "Upstreams", "dns", "upstreams", "upstream"),
                _list(request, "Routes", "alt_route", "upstreams", "modelroute"),
                _list(request, "Prices", "payments", "upstreams", "modelprice"),
            ],
        },
        {
            "title": "Access",
            "items": [
                _list(request, "API keys", "key", "access", "apikey"),
                _list(request, "Teams", "groups", "access", "team"),
                _list(request, "Grants", "rule", "access", "grant"),
                _list(request, "Tool rules", "build", "access", "toolrule"),
                _list(request, "Overrides", "timer", "access", "override"),
                _list(request, "Limits", "speed", "access", "limit"),
                _page(request, "Explain", "help", "console:explain", "access.view_apikey", "access.view_grant"),
                _list(request, "Denials", "block", "access", "denial"),
                _list(request, "Module rules", "shield", "catalog", "modulerule"),
                _list(request, "Changes", "difference", "auditlog", "logentry"),
                _list(request, "Users", "person", "auth", "user"),
                _list(request, "Groups", "group", "auth", "group"),
            ],
        },
        {
            "title": "Audits",
            "items": [
                _list(request, "Findings", "fact_check", "audits", "finding"),
                _list(request, "Audits", "policy", "audits", "auditrun"),
                _list(request, "Schedules", "schedule", "django_celery_beat", "periodictask"),
                _list(request, "Alert channels", "campaign", "audits", "alertchannel"),
                _list(request, "Alerts", "notifications", "audits", "alertdelivery"),
            ],
        },
        {"title": "Help", "items": [{"title": "API docs", "icon": "menu_book", "link": "/docs"}]},
    ]


def _item(title: str, icon: str, view: str) -> dict[str, Any]:
    return {"title": title, "icon": icon, "link": reverse(view)}


def _page(request: HttpRequest, title: str, icon: str, view: str, *needed: str) -> dict[str, Any]:
    may_view = request.user.has_perms(needed)
    return {**_item(title, icon, view), "permission": lambda _request: may_view}


def _list(request: HttpRequest, title: str, icon: str, app: str, model: str) -> dict[str, Any]:
    return _page(request, title, icon, f"admin:{app}_{model}_changelist", f"{app}.view_{model}")
