"""What of access needs an operator's attention, for the dashboard: a source each."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import Final

from django.urls import reverse
from django.utils.timesince import timeuntil

from apps.access.explain import in_words
from apps.access.lint import Lint
from apps.access.models import Denial, Override, Team
from apps.access.policy import Effect, Policy, Rule
from apps.access.policy_in_force import policy_in_force
from apps.console.access import known
from apps.console.matter import Matter
from apps.console.panels.look import Look
from apps.core import clock

SHOWN: Final = 8  # of a kind; the lists have the rest
SILENT_SHOWN: Final = 3
HOUR = timedelta(hours=1)


def suspended_teams(_look: Look) -> Iterator[Matter]:
    for team in _in_force().suspended[:SHOWN]:
        link = reverse("admin:access_team_change", args=[team.pk])
        why = team.suspended_reason or "No reason was given."
        yield Matter(f"The team “{team}” is suspended.", f"{why} Resume it when that is settled.", link)


def open_doors(look: Look) -> Iterator[Matter]:
    """Overrides that allow something for everyone."""
    for made in [one for one in _in_force().for_everyone if one.expires_at > look.now][:SHOWN]:
        left = timeuntil(made.expires_at, look.now, depth=1)
        link = reverse("admin:access_override_change", args=[made.pk])
        title = f"Everyone may use {made.get_about_display().lower()} {made.pattern}, for {left} more."
        yield Matter(
            title, f"{made.author}: {made.reason} End it when it is not needed any more.", link, is_urgent=False
        )


def silent_rules(_look: Look) -> Iterator[Matter]:
    for rule, other in _in_force().silent[:SILENT_SHOWN]:
        remedy = f"“{in_words(other)}” does in its place. Remove one of the two."
        yield Matter(f"“{in_words(rule)}” never speaks.", remedy, known.rule_url(rule), is_urgent=False)


def denials(look: Look) -> Iterator[Matter]:
    """Equal ones are one row, so that the hour's requests are not counted one by one."""
    count = Denial.objects.filter(last_at__gte=look.now - HOUR).count()
    if count:
        title = f"Access refused {count} {'kind' if count == 1 else 'kinds'} of request in the last hour."
        remedy = "Look whether each was meant; explain it or override it there."
        yield Matter(title, remedy, reverse("admin:access_denial_changelist"), is_urgent=False)


# --- what changes with the policy only -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Found:
    """`silent` are rules that never speak, each with the one that does in its place."""

    suspended: list[Team]
    for_everyone: list[Override]
    silent: list[tuple[Rule, Rule]]


class _Same:
    """A policy by its identity: there is another one as soon as a rule, a team or an override changes."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.policy is self.policy

    def __hash__(self) -> int:
        return id(self.policy)


def _in_force() -> _Found:
    return _found(_Same(policy_in_force()))


@lru_cache(maxsize=1)  # to compare 10,000 rules takes a second
def _found(of: _Same) -> _Found:
    rules = sorted(of.policy.rules(), key=lambda rule: rule.id)
    lint = Lint(rules)
    return _Found(
        suspended=list(Team.objects.filter(suspended=True)),
        for_everyone=list(Override.objects.in_force(clock.now()).filter(key=None, effect=Effect.ALLOW)),
        silent=[(rule, other) for rule in rules if (other := lint.silenced_by(rule))],
    )
