"""Turns of declared agents that the client has to finish, because it runs a tool itself.

The client sees its own calls and the text. What the gateway's tools did in the same answer stays here, encrypted, and
takes its place again in the conversation when the client sends it back with its results: the model sees all that
happened. The ids of the client's calls name the turn. It counts for the key, person and agent that had it, for
GATEWAY_APPROVAL_TTL seconds; after that the model sees what the client saw.
"""

import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

import structlog
from django.conf import settings
from django.utils import timezone

from apps.core.secrets import SecretUnreadable, decrypt_json, encrypt_json
from apps.execution.approvals import Asker, in_database
from apps.execution.models import OpenTurn

Message = Mapping[str, Any]

_CALL_ID: Final = re.compile(r"call_(turn[0-9a-f]{16})_\d+")
_MOST: Final = 100  # turns of one conversation, the newest

log = structlog.get_logger(__name__)


def new_reference() -> str:
    return f"turn{secrets.token_hex(8)}"


def call_id(reference: str, number: int) -> str:
    return f"call_{reference}_{number}"


async def keep_open(reference: str, hidden: Sequence[Message], asker: Asker) -> None:
    """Keep the messages that take the place of the one with the client's calls. Raises Unavailable."""
    await in_database(_store, reference, hidden, asker)


async def restored(messages: Sequence[Message], asker: Asker) -> Sequence[Message]:
    """The conversation with what was hidden of it. Raises Unavailable.

    Asks the database only where an id says that there may be something.
    """
    references = {place: found for place, message in enumerate(messages) if (found := _reference_in(message))}
    if not references:
        return messages
    hidden = await in_database(_load, list(references.values())[-_MOST:], asker)
    whole: list[Message] = []
    for place, message in enumerate(messages):
        stored = hidden.get(references.get(place, ""))
        whole.extend(_answered_only(stored, message) if stored else (message,))
    return whole


def _reference_in(message: Message) -> str:
    calls = message.get("tool_calls")
    if not calls:
        return ""
    found = (_CALL_ID.fullmatch(call["id"]) for call in calls)
    return next((one[1] for one in found if one), "")


def _answered_only(stored: Sequence[Message], seen: Message) -> Iterable[Message]:
    """Of the client's calls those that it still has: it left out what it did not answer."""
    kept = {call["id"] for call in seen["tool_calls"]}
    for message in stored:
        if calls := message.get("tool_calls"):
            calls = [call for call in calls if call["id"] in kept or not _CALL_ID.fullmatch(call["id"])]
            yield {**message, "tool_calls": calls}
        else:
            yield message


def _store(reference: str, hidden: Sequence[Message], asker: Asker) -> None:
    now = timezone.now()
    OpenTurn.objects.filter(expires_at__lt=now).delete()
    OpenTurn.objects.create(
        id=reference,
        agent_id=asker.agent_id,
        key_id=asker.key_id,
        user_id=asker.user_id,
        encrypted_messages=encrypt_json(list(hidden)),
        created_at=now,
        expires_at=now + timedelta(seconds=settings.GATEWAY_APPROVAL_TTL),
    )


def _load(references: Sequence[str], asker: Asker) -> Mapping[str, Sequence[Message]]:
    rows = OpenTurn.objects.filter(
        id__in=references,
        key_id=asker.key_id,
        user_id=asker.user_id,
        agent_id=asker.agent_id,
        expires_at__gt=timezone.now(),
    )
    try:
        return {row.id: decrypt_json(row.encrypted_messages) for row in rows}
    except SecretUnreadable as error:
        log.warning("open_turns_unreadable", agent=asker.agent_id, reason=str(error))
        return {}
