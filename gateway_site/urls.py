from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

from gateway_site.api import api

urlpatterns = [
    path("", RedirectView.as_view(url="/admin/")),
    path("", api.urls),
    path("admin/", include("apps.console.urls")),
    path("admin/", admin.site.urls),  # after the API, which has /admin/agents/errors
]
