"""Agents as OpenAI model objects, with the further members that chat UIs show.

Open WebUI shows `name` instead of the id and `info.meta.description` under it; without `builtin_tools: false` it sends
36 tools of its own with every chat (docs/chat-uis.md).
"""

from typing import Any

from apps.catalog.models import State
from apps.catalog.registry import Entry


def model_object(entry: Entry) -> dict[str, Any]:
    capabilities = {"builtin_tools": False, "usage": True, "vision": True, "file_upload": True}
    return {
        "id": entry.agent_id,
        "object": "model",
        "created": entry.created,
        "owned_by": "agent-gateway",
        "name": entry.name,
        "description": entry.description,
        "info": {
            "meta": {
                "description": entry.description,
                "capabilities": capabilities,
                "version": entry.digest[:12],
                "stale": entry.state == State.STALE,
            }
        },
    }
