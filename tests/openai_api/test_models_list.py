"""What chat UIs are told of a declared agent."""

from typing import Any

import pytest

from apps.catalog.declared import declared
from apps.catalog.models import DeclaredAgent
from apps.catalog.registry import declared_entry
from apps.openai_api.models_list import is_listed, model_object


def entry(**fields: Any) -> Any:
    row = DeclaredAgent(**{"name": "desk", "stage": "live", **fields})
    return declared_entry(declared(row))


def test_model_has_what_its_operator_wrote_where_chat_uis_look() -> None:
    told = model_object(
        entry(
            title="Desk", description="Printers.", greeting="Hello", icon="https://example.com/a.png", tags=["a", "b"]
        )
    )
    digest = told["info"]["meta"].pop("version")
    assert len(digest) == 12
    assert told == {
        "id": "default/desk",
        "object": "model",
        "created": 0,
        "owned_by": "agent-gateway",
        "name": "Desk",
        "description": "Printers.",
        "info": {
            "meta": {
                "description": "Printers.",
                "capabilities": {"builtin_tools": False, "usage": True, "vision": True, "file_upload": True},
                "stale": False,
                "pinned": False,
                "profile_image_url": "https://example.com/a.png",
                "greeting": "Hello",
                "tags": [{"name": "a"}, {"name": "b"}],
            }
        },
    }


def test_emoji_is_an_icon_and_no_picture() -> None:
    meta = model_object(entry(icon="🖨️"))["info"]["meta"]
    assert (meta["icon"], "profile_image_url" in meta) == ("🖨️", False)


@pytest.mark.parametrize(
    ("fields", "listed"),
    [({}, True), ({"stage": "draft"}, False), ({"stage": "disabled"}, False), ({"listed": False}, False)],
)
def test_only_live_agents_that_are_to_be_listed_are(fields: dict[str, Any], listed: bool) -> None:
    assert is_listed(entry(**fields)) is listed
