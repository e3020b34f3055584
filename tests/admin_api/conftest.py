import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from apps.access.models import ApiKey
from apps.core import live_config
from tests.factories import ApiKeyFactory

ADMIN = "agw_admin_of_the_tests_0123"
CHAT = "agw_chat_of_the_tests_01234"


@pytest.fixture(autouse=True)
def _fresh_configuration() -> Iterator[None]:
    """No test sees the snapshot of another."""
    live_config.forget()
    yield
    live_config.forget()


class Caller:
    """Somebody with a key, or with a session, who asks in JSON."""

    def __init__(self, client: Client, **headers: str) -> None:
        self.client = client
        self.headers = headers

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """The status and the decoded answer; the configuration is read anew before, as workers do by themselves."""
        live_config.refresh()
        answer = self.client.generic(
            method,
            path,
            b"" if body is None else json.dumps(body).encode(),
            content_type="application/json",
            headers={**self.headers, **headers},
        )
        return answer.status_code, json.loads(answer.content)


@pytest.fixture
def admin_key(db: None) -> ApiKey:
    """Administers, and cannot chat."""
    return ApiKeyFactory.create(name="Automation", credential=ADMIN, may_chat=False, may_administer=True, agents=[])


@pytest.fixture
def admin(admin_key: ApiKey) -> Caller:
    return Caller(Client(), authorization=f"Bearer {ADMIN}")


@pytest.fixture
def chat_key(db: None) -> ApiKey:
    return ApiKeyFactory.create(name="Open WebUI", credential=CHAT, agents=["default/*"])


@pytest.fixture
def staff(db: None) -> User:
    return User.objects.create_user("ann", password="a long password", is_staff=True)


def permit(user: User, *permissions: str) -> None:
    """`access.view_override` and the like."""
    for permission in permissions:
        app, _, codename = permission.partition(".")
        user.user_permissions.add(Permission.objects.get(content_type__app_label=app, codename=codename))
