"""Agents as OpenAI model objects, with the further members that chat UIs show.

Open WebUI shows `name` instead of the id and `info.meta.description` under it; without `builtin_tools: false` it sends
36 tools of its own with every chat (docs/chat-uis.md).
"""

from collections.abc import Mapping
from typing import Any

from apps.access.keys import Key
from apps.catalog import registry
from apps.catalog.models import State
from apps.catalog.registry import Entry
from apps.core.json import encode

_MOST_LISTS = 1000  # kept at once; as many as there are different sets of globs among the keys in use


class _Lists:
    """The encoded lists of one state of the catalog, by the globs of the keys that asked."""

    def __init__(self) -> None:
        self._entries: Mapping[str, Entry] | None = None
        self._bodies: dict[tuple[str, ...], bytes] = {}

    def body(self, key: Key) -> bytes:
        entries = registry.entries()
        if self._entries is not entries or len(self._bodies) > _MOST_LISTS:
            self._entries, self._bodies = entries, {}
        body = self._bodies.get(key.agents)
        if body is None:
            data = [
                model_object(entry) for entry in entries.values() if is_listed(entry) and key.may_use(entry.agent_id)
            ]
            body = self._bodies[key.agents] = encode({"object": "list", "data": data})
        return body


_lists = _Lists()


def model_list(key: Key) -> bytes:
    """The JSON of `GET /v1/models` for this key. Encoded anew only when the catalog has changed."""
    return _lists.body(key)


def is_listed(entry: Entry) -> bool:
    """Agents that are enabled and have a version that serves."""
    return entry.enabled and entry.generation is not None


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
                "stale": entry.state == State.STALE,  # the newest edit does not load
                "pinned": any(one.code == "pinned_version" for one in entry.problems),  # put back by an operator
            }
        },
    }
