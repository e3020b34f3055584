"""What is no chat agent is named as what it is; a chat agent beside it serves."""

import re

import pytest

from tests.acceptance.conftest import Alike
from tests.harness import GatewayServer


@pytest.mark.parametrize(
    ("name", "code", "named"),
    [
        ("ShapeRealtime", "not_a_chat_agent", "RealtimeAgent"),
        ("ShapeVoice", "not_a_chat_agent", "VoicePipeline|voice workflow"),  # without numpy, and with it
        ("ShapeServer", "not_a_chat_agent", "Starlette"),
        ("ShapeTools", "no_export", "no Agent"),
    ],
)
def test_what_is_no_chat_agent_is_named(dropins: GatewayServer, name: str, code: str, named: str) -> None:
    found = dropins.with_key("GET", "/admin/agents/errors?severity=error").json()["data"]
    (error,) = [one for one in found if one["agent"] == f"default/{name.lower()}"]

    assert error["code"] == code
    assert re.search(named, error["reason"])


@pytest.mark.parametrize(("name", "variable"), [("ShapeRealtimeBeside", "writer"), ("ShapeServerBeside", "waiter")])
def test_chat_agent_beside_something_else_serves(alike: Alike, name: str, variable: str) -> None:
    alike(name, "Good morning", variable=variable, alone=True)
