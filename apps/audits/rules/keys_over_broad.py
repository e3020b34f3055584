from collections.abc import Iterator

from django.urls import reverse

from apps.access.models import ApiKey
from apps.audits.rule import Found, Rule, Severity
from apps.core import clock, globs


def _check() -> Iterator[Found]:
    for key in ApiKey.objects.in_force(clock.now()).prefetch_related("grants"):
        link = reverse("admin:access_apikey_change", args=[key.pk])
        if key.may_administer and key.may_chat:
            yield Found(
                f"scopes of key {key}",
                "It may both chat and administer: a chat UI that holds it could change the gateway.",
                "Issue one key for each, and take the scope away that this one does not need.",
                link,
            )
        if key.may_administer and not key.ip_ranges:
            yield Found(
                f"addresses of key {key}",
                "It may administer from anywhere.",
                "Name the addresses that it is used from.",
                link,
            )
        if key.may_chat and any(globs.covers(one, "*") for one in key.globs):
            yield Found(
                f"grants of key {key}",
                "It may use every agent, those that are still to come included.",
                "Grant what it needs: namespaces such as default/* in place of *.",
                link,
            )


RULE = Rule(
    "keys-over-broad",
    "Keys that may more than one job needs",
    Severity.MEDIUM,
    "Narrow its scopes, addresses or grants.",
    _check,
)
