"""Members of staff at the operators' API: their session with the fitting permission, and CSRF for what changes."""

import json
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from apps.access.models import ApiKey, Override
from tests.admin_api.conftest import ADMIN, Caller, permit

DENY = {"effect": "deny", "pattern": "labs/*", "ttl": 60, "reason": "maintenance"}
FORGED = "A session alone may not change anything: send its CSRF token as X-CSRFToken, or use an API key."


def browser(user: User) -> tuple[Caller, str]:
    """Logged in, with Django's CSRF checks on; and its CSRF token, from the console's pages."""
    client = Client(enforce_csrf_checks=True)
    client.force_login(user)
    client.get("/admin/password_change/")
    return Caller(client), client.cookies["csrftoken"].value


def test_session_with_permission_and_token_changes_something_in_its_users_name(staff: User) -> None:
    permit(staff, "access.add_override")
    caller, token = browser(staff)

    status, answer = caller.ask("POST", "/security/override", DENY, **{"x-csrftoken": token})

    assert (status, answer["author"], Override.objects.get().author) == (201, "ann", "ann")


@pytest.mark.parametrize("headers", [{}, {"x-csrftoken": "x" * 32}, {"x-csrftoken": ""}])
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/security/override", DENY),
        ("POST", "/security/preview", {"key": 1}),
        ("POST", "/security/refresh", None),
        ("DELETE", "/security/overrides/1", None),
    ],
)
def test_session_without_the_token_changes_nothing(
    staff: User, method: str, path: str, body: Any, headers: dict[str, str]
) -> None:
    permit(staff, "access.add_override", "access.change_override", "access.view_apikey")
    caller, _ = browser(staff)

    status, answer = caller.ask(method, path, body, **headers)

    assert (status, answer["error"]["code"], answer["error"]["message"]) == (403, "csrf_failed", FORGED)


def test_form_of_another_page_changes_nothing(staff: User) -> None:
    """A cross-site form can send JSON-shaped text/plain, and a form's own token only if it knows it."""
    permit(staff, "access.add_override")
    caller, _ = browser(staff)

    plain = caller.client.post("/security/override", json.dumps(DENY), content_type="text/plain")
    form = caller.client.post("/security/override", {"csrfmiddlewaretoken": "x" * 32, **DENY})

    assert (plain.status_code, form.status_code, Override.objects.count()) == (403, 403, 0)


def test_form_with_the_token_is_no_json(staff: User) -> None:
    permit(staff, "access.add_override")
    caller, token = browser(staff)

    answer = caller.client.post("/security/override", {"csrfmiddlewaretoken": token, **DENY})

    assert (answer.status_code, json.loads(answer.content)["error"]["code"]) == (400, "invalid_json")


def test_reading_needs_no_token(staff: User) -> None:
    permit(staff, "access.view_override")
    caller, _ = browser(staff)

    assert caller.ask("GET", "/security/overrides") == (200, {"data": [], "total": 0})


@pytest.mark.parametrize(
    ("method", "path", "permission"),
    [
        ("POST", "/security/preview", "access.view_apikey"),
        ("POST", "/security/refresh", "access.view_apikey"),
        ("POST", "/security/override", "access.add_override"),
        ("GET", "/security/overrides", "access.view_override"),
        ("DELETE", "/security/overrides/1", "access.change_override"),
        ("GET", "/security/decisions", "observability.view_errorevent"),
        ("GET", "/security/changes", "auditlog.view_logentry"),
        ("GET", "/admin/agents/errors", "catalog.view_diagnostic"),
        ("GET", "/metrics", "execution.view_run"),
        ("GET", "/admin/metrics", "execution.view_run"),
        ("GET", "/metrics/prometheus", "execution.view_run"),
    ],
)
def test_staff_without_the_permission_is_told_which(staff: User, method: str, path: str, permission: str) -> None:
    caller, token = browser(staff)

    status, answer = caller.ask(method, path, None, **{"x-csrftoken": token})

    told = f"Your user lacks the permission '{permission}'."
    assert (status, answer["error"]["code"], answer["error"]["message"]) == (403, "permission", told)


def test_user_who_is_no_staff_is_nobody(staff: User) -> None:
    permit(staff, "access.view_override")
    caller, _ = browser(staff)
    User.objects.update(is_staff=False)

    status, answer = caller.ask("GET", "/security/overrides")

    assert (status, answer["error"]["code"]) == (401, "invalid_api_key")


def test_key_counts_before_the_session_and_needs_no_token(staff: User, admin_key: ApiKey) -> None:
    caller, _ = browser(staff)

    status, answer = caller.ask("POST", "/security/override", DENY, authorization=f"Bearer {ADMIN}")

    assert (status, answer["author"]) == (201, "Automation")


def test_wrong_key_is_not_made_good_by_a_session(staff: User) -> None:
    permit(staff, "access.view_override")
    caller, _ = browser(staff)

    assert caller.ask("GET", "/security/overrides", **{"x-api-key": "wrong"})[0] == 401


def test_body_that_is_too_large_is_refused(admin: Caller) -> None:
    status, answer = admin.ask("POST", "/security/preview", {"key": "x" * 3_000_000})

    assert (status, answer["error"]["code"]) == (413, "request_too_large")
