"""What the console's own pages of access have in common: who may open them, and the policy as it is now."""

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from apps.access.policy import Policy
from apps.access.policy_in_force import policy_in_force
from apps.core import live_config

View = Callable[..., HttpResponse]


def for_operators(view: View) -> View:
    """Staff who may view keys and grants; visitors are led to the login."""

    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if not request.user.has_perms(["access.view_apikey", "access.view_grant"]):
            raise PermissionDenied
        return view(request, *args, **kwargs)

    return admin.site.admin_view(guarded)


def page(request: HttpRequest, template: str, title: str, context: Mapping[str, Any]) -> HttpResponse:
    return TemplateResponse(request, template, {**admin.site.each_context(request), "title": title, **context})


def policy_now() -> Policy:
    """The policy in force, this instant's edits included: a page must not show what was before the last click."""
    live_config.refresh()
    return policy_in_force()
