"""Agents as OpenAI model objects, with the further members that chat UIs show.

Open WebUI shows `name` instead of the id and `info.meta.description` under it; without `builtin_tools: false` it sends
36 tools of its own with every chat (docs/chat-uis.md).
"""

from collections.abc import Mapping
from typing import Any

from apps.access.decide import Action, Target, decide
from apps.access.policy import Policy
from apps.access.policy_in_force import policy_in_force
from apps.access.subject import Subject
from apps.catalog import registry
from apps.catalog.declared import Declared
from apps.catalog.models import State
from apps.catalog.pass_through import PassThrough
from apps.catalog.registry import Entry
from apps.core import clock
from apps.core.json import encode

_MOST_BYTES = 32 * 1024 * 1024  # of lists that are kept at once


class _Lists:
    """The encoded lists of one state of the catalog and the policy, by the outlooks of those that asked."""

    def __init__(self) -> None:
        self._entries: Mapping[str, Entry] | None = None
        self._policy: Policy | None = None
        self._bodies: dict[tuple[object, ...], bytes] = {}
        self._bytes = 0

    def body(self, subject: Subject) -> bytes:
        entries, policy, at = registry.entries(), policy_in_force(), clock.now()
        if self._entries is not entries or self._policy is not policy or self._bytes > _MOST_BYTES:
            self._entries, self._policy, self._bodies, self._bytes = entries, policy, {}, 0
        outlook = policy.outlook(subject.key.id, subject.key.team_id, at)
        body = self._bodies.get(outlook)
        if body is None:
            data = [
                model_object(entry)
                for entry in entries.values()
                if is_listed(entry) and decide(policy, subject, Action.LIST, Target(entry.agent_id), at=at).allowed
            ]
            body = self._bodies[outlook] = encode({"object": "list", "data": data})
            self._bytes += len(body)
        return body


_lists = _Lists()


def model_list(subject: Subject) -> bytes:
    """The JSON of `GET /v1/models` for this caller. Encoded anew only when the catalog or the policy has changed."""
    return _lists.body(subject)


def is_listed(entry: Entry) -> bool:
    """Agents that are enabled, have a version that serves, and are not kept out of lists by their settings."""
    return entry.enabled and entry.serves is not None and entry.options.listed


def model_object(entry: Entry) -> dict[str, Any]:
    model = entry.serves if isinstance(entry.serves, PassThrough) else None
    return {
        "id": entry.agent_id,
        "object": "model",
        "created": entry.created,
        "owned_by": model.upstream if model else "agent-gateway",
        "name": entry.name,
        "description": entry.description,
        "info": {"meta": {"description": entry.description, **(_MODELS_META if model else _meta(entry))}},
    }


# A model takes the tools of whoever asks it; agents have their own.
_CAPABILITIES = {"usage": True, "vision": True, "file_upload": True}
_MODELS_META = {"capabilities": _CAPABILITIES}


def _meta(entry: Entry) -> dict[str, Any]:
    return {
        "capabilities": {"builtin_tools": False, **_CAPABILITIES},
        "version": entry.digest[:12],
        "stale": entry.state == State.STALE,  # the newest edit does not load
        "pinned": any(one.code == "pinned_version" for one in entry.problems),  # put back by an operator
        **(_presentation(entry.serves) if isinstance(entry.serves, Declared) else {}),
    }


def _presentation(one: Declared) -> dict[str, Any]:
    """What its operator wrote for chat UIs: a picture and tags where Open WebUI has them (`profile_image_url`, `tags`),
    an emoji and the greeting for whoever shows such."""
    is_picture = ":" in one.icon  # a URL, of http or data
    shown = {
        "profile_image_url": one.icon if is_picture else "",
        "icon": "" if is_picture else one.icon,
        "greeting": one.greeting,
        "tags": [{"name": tag} for tag in one.tags],
    }
    return {name: value for name, value in shown.items() if value}
