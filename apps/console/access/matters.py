"""What of access needs an operator's attention, for the dashboard."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from django.urls import reverse
from django.utils.timesince import timeuntil

from apps.access.explain import in_words
from apps.access.lint import Lint
from apps.access.models import Denial, Grant, Override, Team, ToolRule
from apps.access.policy import Effect
from apps.console.access import known
from apps.console.matter import Matter

SHOWN = 3  # rules; the lists have the rest
HOUR = timedelta(hours=1)


def access_matters(now: datetime) -> Iterator[Matter]:
    yield from _suspended_teams()
    yield from _open_doors(now)
    yield from _silent_rules()
    yield from _denials(now)


def _suspended_teams() -> Iterator[Matter]:
    for team in Team.objects.filter(suspended=True):
        link = reverse("admin:access_team_change", args=[team.pk])
        why = team.suspended_reason or "No reason was given."
        yield Matter(f"The team “{team}” is suspended.", f"{why} Resume it when that is settled.", link)


def _open_doors(now: datetime) -> Iterator[Matter]:
    """Overrides that allow something for everyone."""
    for made in Override.objects.in_force(now).filter(key=None, effect=Effect.ALLOW):
        left = timeuntil(made.expires_at, now, depth=1)
        link = reverse("admin:access_override_change", args=[made.pk])
        title = f"Everyone may use {made.get_about_display().lower()} {made.pattern}, for {left} more."
        yield Matter(
            title, f"{made.author}: {made.reason} End it when it is not needed any more.", link, is_urgent=False
        )


def _silent_rules() -> Iterator[Matter]:
    rules = [row.rule() for model in (Grant, ToolRule) for row in model.objects.all()]
    lint = Lint(rules)
    silent = [(rule, other) for rule in rules if (other := lint.silenced_by(rule))]
    for rule, other in silent[:SHOWN]:
        remedy = f"“{in_words(other)}” does in its place. Remove one of the two."
        yield Matter(f"“{in_words(rule)}” never speaks.", remedy, known.rule_url(rule), is_urgent=False)


def _denials(now: datetime) -> Iterator[Matter]:
    """Equal ones are one row, so that the hour's requests are not counted one by one."""
    count = Denial.objects.filter(last_at__gte=now - HOUR).count()
    if count:
        title = f"Access refused {count} {'kind' if count == 1 else 'kinds'} of request in the last hour."
        remedy = "Look whether each was meant; explain it or override it there."
        yield Matter(title, remedy, reverse("admin:access_denial_changelist"), is_urgent=False)
