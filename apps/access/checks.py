"""Mistakes in the settings, as Django's system checks; `serve` asks the same."""

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register

_WITHOUT_STORE = "Several workers (GATEWAY_WORKERS) need a shared store, or each would count limits for itself."
_REMEDY = "Set REDIS_URL, such as redis://127.0.0.1:6379/0, or GATEWAY_WORKERS=1."


def lacks_shared_store() -> str:
    """One sentence and its remedy when the workers could not count together, else an empty text."""
    return f"{_WITHOUT_STORE} {_REMEDY}" if settings.GATEWAY_WORKERS > 1 and not settings.REDIS_URL else ""


@register
def several_workers_count_together(**_: Any) -> list[CheckMessage]:
    return [Error(_WITHOUT_STORE, hint=_REMEDY, id="access.E001")] if lacks_shared_store() else []
