from collections.abc import Iterator

from django.urls import reverse

from apps.access.models import ApiKey
from apps.audits.rule import Found, Rule, Severity
from apps.core import clock


def _check() -> Iterator[Found]:
    for key in ApiKey.objects.in_force(clock.now()).filter(expires_at=None):
        yield Found(
            f"key {key}",
            "It is valid for ever: whoever copied it once can use it until somebody notices.",
            link=reverse("admin:access_apikey_change", args=[key.pk]),
        )


RULE = Rule(
    "keys-without-expiry",
    "Keys that never expire",
    Severity.MEDIUM,
    "Give it an expiry, and rotate it before then: the former credential goes on counting for as long as you say.",
    _check,
)
