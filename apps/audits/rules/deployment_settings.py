from collections.abc import Iterator

from django.conf import settings
from django.core import checks

from apps.audits.rule import Found, Rule, Severity

# What TLS brings by itself as soon as GATEWAY_PUBLIC_URL is an https address: one finding says it, not five.
_OF_TLS = frozenset({"security.W004", "security.W008", "security.W012", "security.W016"})


def _check() -> Iterator[Found]:
    """`manage.py check --deploy`."""
    found = checks.run_checks(include_deployment_checks=True)
    if not settings.BEHIND_TLS:
        yield Found(
            "GATEWAY_PUBLIC_URL",
            "The gateway does not know of an https address: cookies of sessions travel unprotected.",
            "Put a proxy with TLS before it, and name its address in GATEWAY_PUBLIC_URL.",
        )
    for one in found:
        if one.level < checks.WARNING or (one.id in _OF_TLS and not settings.BEHIND_TLS):
            continue
        yield Found(str(one.id or one.msg[:80]), str(one.msg), str(one.hint or ""))


RULE = Rule(
    "deployment-settings",
    "Settings that are not fit for a network",
    Severity.MEDIUM,
    "Mend the setting that the message names; README.md lists them.",
    _check,
)
