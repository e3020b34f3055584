"""The instructions of a declared agent, with what the operator left open filled in for this run."""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Final

from django.utils import timezone

from apps.access.subject import EndUser
from apps.core.clock import now
from apps.execution.order import DeclaredOrder

_VARIABLE: Final = re.compile(r"\{\{\s*(\w+)\s*\}\}")
_LONGEST: Final = 200  # characters of what a front end tells of a person
_NOBODY: Final = EndUser("", name="the user", email="unknown")  # for a key without a person behind it


def system_message(order: DeclaredOrder) -> str:
    """The text of the system message; empty where the agent has no instructions.

    Filled in one pass: a value that looks like a variable stays as it is. Unknown variables stay too.
    """
    template = order.declared.instructions
    if "{{" not in template:
        return template
    values = _values(order, timezone.localtime(now()))
    return _VARIABLE.sub(lambda found: values.get(found[1], found[0]), template)


def _values(order: DeclaredOrder, at: datetime) -> Mapping[str, str]:
    user = (order.subject.user if order.subject else None) or _NOBODY
    return {
        "date": f"{at:%Y-%m-%d}",
        "time": f"{at:%H:%M}",
        "weekday": f"{at:%A}",
        "user": _one_line(user.name or user.label),
        "user_email": _one_line(user.email or _NOBODY.email),
        "agent": order.declared.name,
    }


def _one_line(text: str) -> str:
    """A name is no place for further instructions."""
    return " ".join(text.split())[:_LONGEST]
