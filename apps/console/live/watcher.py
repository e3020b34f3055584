"""Who may watch: staff with a session who may view runs. Asked at the start, and again while they watch."""

from dataclasses import dataclass
from importlib import import_module
from types import SimpleNamespace
from typing import Any, Final
from urllib.parse import urlsplit

from channels.db import database_sync_to_async
from django.conf import settings
from django.contrib.auth import get_user

NEEDED: Final = "execution.view_run"


@dataclass(frozen=True, slots=True)
class Refusal:
    """`code` closes the WebSocket; static/console/live.js says the rest by it."""

    code: int
    reason: str


NO_SESSION: Final = Refusal(4401, "no session")
NOT_ALLOWED: Final = Refusal(4403, "not allowed")
CANNOT_TELL: Final = Refusal(1011, "the database is away")
TOO_MANY: Final = Refusal(4429, "too many live pages")


@database_sync_to_async  # type: ignore[untyped-decorator]  # Channels ships no types
def refusal_of(session_key: str | None) -> Refusal | None:
    """Why the user of this session may not watch now, or None. Reads the database. Raises DatabaseError."""
    store = import_module(settings.SESSION_ENGINE).SessionStore
    request: Any = SimpleNamespace(session=store(session_key))
    user = get_user(request)
    if not user.is_authenticated:
        return NO_SESSION
    return None if user.is_active and user.is_staff and user.has_perm(NEEDED) else NOT_ALLOWED


def is_same_origin(scope: dict[str, Any]) -> bool:
    """Whether the page that asks is of this gateway: browsers let any page open a WebSocket, with the cookies of here.

    As Django judges a POST: the origin's host and port are those that the browser asked for, or the origin is trusted.
    """
    headers = dict(scope["headers"])
    origin = headers.get(b"origin", b"").decode("latin-1").lower()
    host = headers.get(b"host", b"").decode("latin-1").lower()
    return bool(origin) and (urlsplit(origin).netloc == host or origin in settings.CSRF_TRUSTED_ORIGINS)
