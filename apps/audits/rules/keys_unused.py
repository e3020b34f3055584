from collections.abc import Iterator
from datetime import timedelta

from django.db.models import Q
from django.urls import reverse

from apps.access.models import ApiKey
from apps.audits.rule import Found, Rule, Severity
from apps.core import clock

_NEVER_USED = timedelta(days=30)  # since it was issued
_NOT_USED = timedelta(days=90)


def _check() -> Iterator[Found]:
    now = clock.now()
    unused = Q(last_used_at=None, created_at__lt=now - _NEVER_USED) | Q(last_used_at__lt=now - _NOT_USED)
    for key in ApiKey.objects.in_force(now).filter(unused):
        last = f"{key.last_used_at:%Y-%m-%d}" if key.last_used_at else None
        yield Found(
            f"key {key}",
            f"It was used last on {last}." if last else f"It was issued on {key.created_at:%Y-%m-%d} and never used.",
            link=reverse("admin:access_apikey_change", args=[key.pk]),
        )


RULE = Rule(
    "keys-unused",
    "Keys that nobody uses",
    Severity.LOW,
    "Revoke it; a key that is not there cannot be stolen.",
    _check,
)
