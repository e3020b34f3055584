"""Who may use the operators' API: a key with the scope `admin`, or a member of staff who is logged in to the admin."""

from typing import Any

from django.contrib.auth.models import AnonymousUser, User
from django.http import HttpRequest
from ninja.security.base import AuthBase

from apps.access.authenticate import authenticate
from apps.access.authorise import authorise
from apps.access.decide import Action, Target


class OperatorAuth(AuthBase):
    """`permission` is what a member of staff needs, such as `catalog.view_diagnostic`."""

    openapi_type = "http"
    openapi_scheme = "bearer"

    def __init__(self, permission: str) -> None:
        super().__init__()
        self._permission = permission

    def __call__(self, request: HttpRequest) -> Any:
        """Raises Unauthenticated or AccessDenied."""
        user: User | AnonymousUser = request.user
        if user.is_active and user.is_staff and user.has_perm(self._permission):
            return user
        subject = authenticate(request.META)
        authorise(subject, Action.ADMINISTER, Target())
        return subject
