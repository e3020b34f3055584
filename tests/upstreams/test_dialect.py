"""Requests to the Responses API, as a server takes them that lacks this or that."""

from dataclasses import replace
from typing import Any

import pytest

from apps.upstreams.dialect import adapt_responses
from tests.upstreams.test_routing import CLOUD

FORMAT = {"type": "text"}
TOOL = {"type": "function", "name": "look", "parameters": {}}


def body(**more: Any) -> dict[str, Any]:
    return {"model": "gpt", "input": [{"role": "user", "content": "Hi"}], **more}


SYSTEM = [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "Hi"}]


@pytest.mark.parametrize(
    ("switch", "given", "sent"),
    [
        ("takes_reasoning_effort", {"reasoning": {"effort": "low"}}, {}),
        ("takes_verbosity", {"text": {"verbosity": "low", "format": FORMAT}}, {"text": {"format": FORMAT}}),
        ("takes_parallel_tool_calls", {"parallel_tool_calls": True}, {}),
        ("takes_strict", {"tools": [{**TOOL, "strict": True}]}, {"tools": [TOOL]}),
        ("takes_developer_role", {"input": SYSTEM}, {"input": [{**SYSTEM[0], "role": "system"}, SYSTEM[1]]}),
        (
            "takes_several_system_messages",
            {"instructions": "Answer.", "input": SYSTEM},
            {"instructions": "Answer.\n\nBe brief.", "input": SYSTEM[1:]},
        ),
        ("takes_several_system_messages", {}, {}),
    ],
)  # fmt: skip
def test_what_a_server_does_not_take_is_changed(switch: str, given: dict[str, Any], sent: dict[str, Any]) -> None:
    assert adapt_responses(body(**given), replace(CLOUD, **{switch: False})) == body(**sent)
    assert adapt_responses(body(**given), CLOUD) == body(**given)
