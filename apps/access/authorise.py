"""The one decision: may this key do this? A pure function, so that every door and every page gives the same answer."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from apps.access.keys import Key


class Action(StrEnum):
    CHAT = "chat"  # with an agent
    LIST = "list"  # see an agent among the models
    ADMINISTER = "administer"  # the operators' API


@dataclass(frozen=True, slots=True)
class Decision:
    """`reason` is one sentence for the caller."""

    allowed: bool
    reason: str


_ALLOWED = Decision(True, "Allowed.")


def decide(key: Key, action: Action, target: str, *, at: datetime) -> Decision:
    """Whether `key` may do `action` to `target` (an agent id; empty when no agent is meant) at the instant `at`."""
    if not key.is_in_force(at):
        return Decision(False, "The API key is revoked or expired.")
    if action is Action.ADMINISTER:
        return _ALLOWED if key.may_administer else Decision(False, "The API key lacks the scope 'admin'.")
    if not key.may_chat:
        return Decision(False, "The API key lacks the scope 'chat'.")
    if target and not key.may_use(target):
        return Decision(False, f"The API key may not use the agent '{target}'.")
    return _ALLOWED
