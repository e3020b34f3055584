"""Who may use the operators' API: a key with the scope `admin`, or a member of staff who is logged in to the admin."""

from typing import Any

from django.contrib.auth.models import AnonymousUser, User
from django.http import HttpRequest
from ninja.security.base import AuthBase
from ninja.utils import check_csrf

from apps.access.attempts import refuse_many
from apps.access.authenticate import authenticate, presented_credential
from apps.access.authorise import authorise
from apps.access.decide import Action, Target
from apps.access.subject import Subject
from apps.core.errors import AccessDenied, Unauthenticated
from apps.observability import context


class OperatorAuth(AuthBase):
    """`permission` is what a member of staff needs, such as `catalog.view_diagnostic`.

    A request that presents a key is judged by the key alone, whoever is logged in besides.
    """

    openapi_type = "http"
    openapi_scheme = "bearer"

    def __init__(self, permission: str) -> None:
        super().__init__()
        self._permission = permission

    def __call__(self, request: HttpRequest) -> Any:
        """Raises Unauthenticated, TooManyAttempts or AccessDenied."""
        if not presented_credential(request.META):
            user: User | AnonymousUser = request.user
            if user.is_active and user.is_staff:
                return self._staff(request, user)
        return _key(request)

    def _staff(self, request: HttpRequest, user: User | AnonymousUser) -> User | AnonymousUser:
        if not user.has_perm(self._permission):
            context.bind(stage="authorise")
            raise AccessDenied(f"Your user lacks the permission '{self._permission}'.", code="permission")
        refuse_forgery(request)
        context.bind(stage="execute")
        return user


def _key(request: HttpRequest) -> Subject:
    try:
        subject = authenticate(request.META)
    except Unauthenticated as error:
        refuse_many(request.META, error)
        raise
    authorise(subject, Action.ADMINISTER, Target())
    context.bind(stage="execute")
    return subject


def refuse_forgery(request: HttpRequest) -> None:
    """Django's own check of unsafe methods, which ninja takes its views out of. Raises AccessDenied."""
    request.body  # noqa: B018  # kept from here on: the check would read a form's, and leave nothing to the view
    if check_csrf(request):
        raise AccessDenied(
            "A session alone may not change anything: send its CSRF token as X-CSRFToken, or use an API key.",
            code="csrf_failed",
        )
