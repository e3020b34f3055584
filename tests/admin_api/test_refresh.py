"""POST /security/refresh."""

import os
from datetime import datetime, timedelta

from apps.access.keys import rotate_key
from apps.access.models import ApiKey, Override, Team, ToolRule
from apps.core import clock
from apps.core.models import ConfigVersion
from tests.admin_api.conftest import ADMIN, Caller
from tests.factories import ApiKeyFactory, GrantFactory


def test_state_is_counted_and_holds_no_secret(admin: Caller, chat_key: ApiKey) -> None:
    now = clock.now()
    rotate_key(chat_key, at=now)
    chat_key.set_identity_secret("the front end's own secret")
    chat_key.save()
    ApiKeyFactory.create(expires_at=now - timedelta(hours=1), agents=[])
    ApiKeyFactory.create(revoked_at=now, agents=[])
    Team.objects.create(name="Labs")
    Team.objects.create(name="Former", suspended=True)
    GrantFactory.create(agents="labs/*")
    ToolRule.objects.create(effect="deny", pattern="delete_*")
    ToolRule.objects.create(effect="deny", by="module", pattern="os.*")
    for hours in (1, -1):
        ends = now + timedelta(hours=hours)
        Override.objects.create(effect="deny", about="tool", pattern="x", reason="r", author="a", expires_at=ends)

    status, state = admin.ask("POST", "/security/refresh")

    read_at = datetime.fromisoformat(state.pop("read_at"))
    assert (status, timedelta(0) <= clock.now() - read_at < timedelta(seconds=5)) == (200, True)
    assert state == {
        "worker": os.getpid(),
        "version": ConfigVersion.current(),
        "keys": {"active": 2, "expired": 1, "revoked": 1},
        "teams": 2,
        "teams_suspended": 1,
        "grants": 2,
        "tool_rules": 2,
        "overrides_in_force": 1,
    }


def test_worker_knows_at_once_what_was_changed_elsewhere(admin: Caller) -> None:
    _, before = admin.ask("POST", "/security/refresh")
    Team.objects.create(name="Labs")  # and nothing has told this process
    headers = {"authorization": f"Bearer {ADMIN}"}

    after = admin.client.post("/security/refresh", headers=headers).json()

    assert (before["teams"], after["teams"], after["version"] > before["version"]) == (0, 1, True)
