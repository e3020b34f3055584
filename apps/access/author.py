"""On whose behalf a request of operators changes something, for the history of changes."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

from apps.access.subject import Subject
from apps.core.audit import Author, written_by


def author_of(request: HttpRequest) -> Author:
    """The key that was authenticated for it, else the user who is logged in."""
    address = request.META.get("REMOTE_ADDR", "")
    subject = getattr(request, "auth", None)  # ninja puts there what its authentication found
    if isinstance(subject, Subject):
        return Author(subject.key.name, key_id=subject.key.id, address=address)
    if request.user.is_authenticated:
        return Author(request.user.get_username(), user=request.user, address=address)
    return Author("nobody", address=address)


def author_of_changes(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """Middleware for Django's own handler; the road of /v1 changes no configuration."""

    def middleware(request: HttpRequest) -> HttpResponse:
        with written_by(lambda: author_of(request)):
            return get_response(request)

    return middleware
