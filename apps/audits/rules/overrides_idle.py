from collections.abc import Iterator
from datetime import timedelta

from django.urls import reverse

from apps.access.lint import fits_nothing
from apps.access.models import Override
from apps.audits.known import tools_by_agent
from apps.audits.rule import Found, Rule, Severity
from apps.core import clock

_OVER = timedelta(days=30)


def _check() -> Iterator[Found]:
    now, tools = clock.now(), tools_by_agent()
    for made in Override.objects.in_force(now).select_related("key"):
        if fits_nothing(made.rule(), tools):
            yield Found(
                f"{made}",
                f"Nothing fits {made.pattern} now; it is in force until {made.expires_at:%Y-%m-%d %H:%M} UTC.",
                "Check its spelling, or end it.",
                reverse("admin:access_override_change", args=[made.pk]),
            )
    if over := Override.objects.filter(expires_at__lt=now - _OVER).count():
        yield Found(
            "overrides that ended long ago",
            f"{over} {'has' if over == 1 else 'have'} been over for more than {_OVER.days} days.",
            "Remove them from the list; the history of changes keeps what was done.",
            reverse("admin:access_override_changelist"),
        )


RULE = Rule(
    "overrides-idle",
    "Overrides that match nothing, or are long over",
    Severity.LOW,
    "End or remove it.",
    _check,
)
