from django.contrib import admin
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import include, path
from django.views.generic import RedirectView

from apps.openai_api.errors import error_response
from gateway_site.api import api

urlpatterns = [
    path("", RedirectView.as_view(url="/admin/")),
    path("", api.urls),
    path("admin/", include("apps.console.urls")),
    path("admin/", admin.site.urls),  # after the API, which has /admin/agents/errors
]


def handler404(request: HttpRequest, exception: Exception) -> HttpResponse:  # noqa: ARG001  # Django's signature
    """In the one shape of errors, also where no API is."""
    return error_response(request, Http404())


def handler400(request: HttpRequest, exception: Exception) -> HttpResponse:
    """A host name that is not the gateway's, and what else Django finds suspicious."""
    return error_response(request, exception)
