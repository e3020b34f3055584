"""POST /security/refresh: the configuration of access that the worker which answers goes by."""

import os
from collections import Counter
from datetime import datetime, timedelta

from django.http import HttpRequest
from ninja import Router, Schema
from pydantic import ConfigDict, Field

from apps.access.keys import keys
from apps.access.limits.in_force import limits_in_force
from apps.access.policy import Kind
from apps.access.policy_in_force import policy_in_force
from apps.access.subject import Key
from apps.admin_api.answers import REFUSALS
from apps.admin_api.authentication import OperatorAuth
from apps.core import clock, live_config

router = Router()


class KeyCounts(Schema):
    active: int
    expired: int
    revoked: int


class ConfigurationState(Schema):
    """What the worker has in memory, counted; nothing of it is a secret."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "worker": 4711,
                    "version": 218,
                    "read_at": "2026-11-25T12:00:00Z",
                    "keys": {"active": 9, "expired": 1, "revoked": 4},
                    "teams": 2,
                    "teams_suspended": 0,
                    "grants": 11,
                    "tool_rules": 3,
                    "overrides_in_force": 1,
                    "limits": 2,
                }
            ]
        }
    )

    worker: int = Field(description="The id of its process.")
    version: int = Field(description="Grows with every change; equal in workers that agree.")
    read_at: datetime = Field(description="When it last looked whether there is a newer one.")
    keys: KeyCounts
    teams: int
    teams_suspended: int
    grants: int
    tool_rules: int
    overrides_in_force: int
    limits: int


@router.post(
    "/security/refresh",
    response={200: ConfigurationState, **REFUSALS},
    auth=OperatorAuth("access.view_apikey"),
    summary="Read the configuration now",
)
def refresh(request: HttpRequest) -> ConfigurationState:  # noqa: ARG001
    """The worker that answers reads what has changed, at once; by itself it does so twice a second."""
    snapshot = live_config.refresh()
    now = clock.now()
    policy = policy_in_force()
    rules = list(policy.rules())
    standing = Counter(rule.kind is Kind.AGENT for rule in rules if not rule.is_override)
    return ConfigurationState(
        worker=os.getpid(),
        version=snapshot.version,
        read_at=now - timedelta(seconds=live_config.seconds_since_check()),
        keys=_counted(now),
        teams=len(policy.teams),
        teams_suspended=sum(bool(team.suspended) for team in policy.teams.values()),
        grants=standing[True],
        tool_rules=standing[False],
        overrides_in_force=sum(rule.is_override and rule.is_in_force(now) for rule in rules),
        limits=len(limits_in_force().rules),
    )


def _counted(now: datetime) -> KeyCounts:
    """A key whose credential was replaced is found by both, and counts once."""
    known = {one.key.id: one.key for one in keys.current().values()}
    states = Counter(_state(key, now) for key in known.values())
    return KeyCounts(active=states["active"], expired=states["expired"], revoked=states["revoked"])


def _state(key: Key, now: datetime) -> str:
    if key.revoked:
        return "revoked"
    return "active" if key.is_in_force(now) else "expired"
