"""The first start: tables, an admin user, a first API key, LLM servers. Every later start: nothing to do, quickly."""

import contextlib
import os
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.db import DatabaseError, connection, transaction

from apps.access.keys import MINIMUM_LENGTH, issue_key
from apps.access.models import ApiKey
from apps.core.database import explain_database, pending_migrations
from apps.upstreams.detect import detect_upstreams

ADMIN_NAME = "admin"
FIRST_KEY_NAME = "First key"
PASSWORD_VARIABLE = "GATEWAY_BOOTSTRAP_ADMIN_PASSWORD"  # noqa: S105  # its name
KEY_VARIABLE = "GATEWAY_BOOTSTRAP_API_KEY"
_ADVISORY_LOCK = 0x61677467  # "agtg", of PostgreSQL's advisory locks


class BootstrapFailed(Exception):
    """The message is one sentence and a remedy, for the terminal."""


@dataclass(frozen=True, slots=True)
class Credential:
    """Something made at the first start. `secret` is None when the operator's environment gave it."""

    secret: str | None


@dataclass(frozen=True, slots=True)
class FirstStart:
    """What bootstrap did; all None and empty when there was nothing to do."""

    migrated: bool = False
    password: Credential | None = None
    key: Credential | None = None
    upstreams: Sequence[str] = ()
    default_upstream: str = ""
    remarks: Sequence[str] = ()


def bootstrap() -> FirstStart:
    """Bring the installation to a state in which it can serve. Safe to repeat, and to run twice at once.

    Raises BootstrapFailed.
    """
    try:
        with _one_at_a_time():
            migrated = migrate()
            password, key, remarks = _create_credentials()
            detection = detect_upstreams()
    except DatabaseError as error:
        raise BootstrapFailed(explain_database(error)) from error
    except OSError as error:
        raise BootstrapFailed(
            f"The data folder {settings.DATA_DIR} cannot be written ({error.strerror or error}). "
            f"Give this user access to it, or name another one in GATEWAY_DATA_DIR."
        ) from error
    return FirstStart(
        migrated=migrated,
        password=password,
        key=key,
        upstreams=detection.lines if detection else (),
        default_upstream=detection.default.slug if detection else "",
        remarks=[*remarks, *(detection.remarks if detection else ())],
    )


def migrate() -> bool:
    """Bring the tables up to date; False when they were."""
    if not pending_migrations():
        return False
    call_command("migrate", verbosity=0, interactive=False)
    return True


def _create_credentials() -> tuple[Credential | None, Credential | None, list[str]]:
    """The admin user and the first key, where there are none: both or, on a bad one, neither."""
    with transaction.atomic():
        password, remarks = (None, []) if get_user_model().objects.exists() else _create_admin()
        key = None if ApiKey.objects.exists() else _create_key()
    return password, key, remarks


def _create_admin() -> tuple[Credential, list[str]]:
    given = os.environ.get(PASSWORD_VARIABLE, "")
    password = given or secrets.token_urlsafe(12)
    get_user_model().objects.create_superuser(ADMIN_NAME, password=password)
    return Credential(None if given else password), [*_weakness(given)]


def _weakness(password: str) -> Iterator[str]:
    try:
        if password:
            validate_password(password)
    except ValidationError as error:
        yield f"the password of {PASSWORD_VARIABLE} is weak: {' '.join(error.messages)}"


def _create_key() -> Credential:
    given = os.environ.get(KEY_VARIABLE, "")
    try:
        _, credential = issue_key(FIRST_KEY_NAME, credential=given or None, may_administer=True)
    except ValueError as error:
        raise BootstrapFailed(
            f"The key of {KEY_VARIABLE} is too short: give at least {MINIMUM_LENGTH} characters, or unset it to have "
            f"one generated."
        ) from error
    return Credential(None if given else credential)


@contextlib.contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Two processes that start together on one empty database must not both fill it."""
    with _folder_lock():
        if connection.vendor != "postgresql":
            yield
            return
        with connection.cursor() as cursor:  # several machines, one database
            cursor.execute("SELECT pg_advisory_lock(%s)", [_ADVISORY_LOCK])
        try:
            yield
        finally:
            with contextlib.suppress(DatabaseError), connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(%s)", [_ADVISORY_LOCK])


@contextlib.contextmanager
def _folder_lock() -> Iterator[None]:
    try:
        import fcntl
    except ImportError:  # Windows: one process at a time is the user's care
        yield
        return
    with (settings.DATA_DIR / "bootstrap.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # released with the file, however the process ends
        yield
