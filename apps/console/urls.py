"""The console's own pages, beside those of the admin's models. Before `admin.site.urls`, which answers to all below."""

from django.urls import path

from apps.console.access.explain import explain_page
from apps.console.access.matrix import key_access
from apps.console.dashboard import dashboard_now
from apps.console.live.page import live_page_view
from apps.console.try_agent import try_agent_view
from apps.console.where import view as where

app_name = "console"
urlpatterns = [
    path("dashboard/", dashboard_now, name="dashboard"),
    path("access/explain/", explain_page, name="explain"),
    path("declared/<int:pk>/try/", try_agent_view, name="try_agent"),
    path("access/of-key/<int:key_id>/", key_access, name="key_access"),
    path("live/", live_page_view, name="live"),
    path("upstreams/where/", where, name="where"),
]
