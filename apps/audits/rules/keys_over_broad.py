from collections.abc import Iterable, Iterator

from django.db.models import Prefetch
from django.urls import reverse

from apps.access.models import ApiKey, Grant, Team
from apps.access.policy import Effect
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
        if key.may_chat and _covers_all(key.grants.all(), Effect.ALLOW):
            yield Found(
                f"grants of key {key}",
                "It may use every agent, those that are still to come included.",
                "Grant what it needs: namespaces such as default/* in place of *.",
                link,
            )
    yield from _of_teams()


def _of_teams() -> Iterator[Found]:
    """One for all keys of a team, because one grant is to be narrowed. What a key itself is denied goes before that."""
    keys = ApiKey.objects.in_force(clock.now()).filter(may_chat=True).prefetch_related("grants")
    teams = Team.objects.filter(suspended=False).prefetch_related("grants", Prefetch("keys", keys))
    for team in teams:
        if not _covers_all(team.grants.all(), Effect.ALLOW):
            continue
        held = [key for key in team.keys.all() if not _covers_all(key.grants.all(), Effect.DENY)]
        if held:
            yield Found(
                f"grants of team {team}",
                f"Keys may use every agent by it, those that are still to come included: {len(held)} of the team.",
                "Grant the team what it needs: namespaces such as default/* in place of *.",
                reverse("admin:access_team_change", args=[team.pk]),
            )


def _covers_all(grants: Iterable[Grant], effect: Effect) -> bool:
    return any(one.effect == effect and globs.covers(one.agents, "*") for one in grants)


RULE = Rule(
    "keys-over-broad",
    "Keys that may more than one job needs",
    Severity.MEDIUM,
    "Narrow its scopes, addresses or grants.",
    _check,
)
