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
        if key.may_chat and _opens_all(key.grants.all()):
            yield Found(
                f"grants of key {key}",
                "It may use every agent, those that are still to come included.",
                "Grant what it needs: namespaces such as default/* in place of *.",
                link,
            )
    yield from _of_teams()
    yield from _of_everyone()


def _of_teams() -> Iterator[Found]:
    """One for all keys of a team, because one grant is to be narrowed. What a key itself is denied goes before that."""
    keys = ApiKey.objects.in_force(clock.now()).filter(may_chat=True).prefetch_related("grants")
    teams = Team.objects.filter(suspended=False).prefetch_related("grants", Prefetch("keys", keys))
    for team in teams:
        if not _opens_all(team.grants.all()):
            continue
        held = [key for key in team.keys.all() if not _closes_all(key.grants.all())]
        if held:
            yield Found(
                f"grants of team {team}",
                f"Keys may use every agent by it, those that are still to come included: {len(held)} of the team.",
                "Grant the team what it needs: namespaces such as default/* in place of *.",
                reverse("admin:access_team_change", args=[team.pk]),
            )


def _of_everyone() -> Iterator[Found]:
    """One for all keys, because one grant is to be narrowed. What a key or its team is denied goes before that."""
    grants = Grant.objects.filter(key=None, team=None, namespace="")
    if not _opens_all(grants):
        return
    keys = ApiKey.objects.in_force(clock.now()).filter(may_chat=True).exclude(team__suspended=True)
    held = [
        key
        for key in keys.select_related("team").prefetch_related("grants", "team__grants")
        if not _closes_all([*key.grants.all(), *(key.team.grants.all() if key.team else ())])
    ]
    if held:
        yield Found(
            "grants of everyone",
            "Keys may use every agent by it, those that are still to come included, whatever they are granted "
            f"themselves: {len(held)} now.",
            "Grant everyone what every key may have: namespaces such as default/* in place of *. Where every key is "
            "meant to use everything, as on a machine for development, accept this finding with that reason.",
            reverse("admin:access_grant_change", args=[next(one.pk for one in grants if _is_of_all(one))]),
        )


def _opens_all(grants: Iterable[Grant]) -> bool:
    """For the same subject deny goes before allow."""
    return not _closes_all(grants) and any(one.effect == Effect.ALLOW and _is_of_all(one) for one in grants)


def _closes_all(grants: Iterable[Grant]) -> bool:
    return any(one.effect == Effect.DENY and _is_of_all(one) for one in grants)


def _is_of_all(grant: Grant) -> bool:
    return globs.covers(grant.agents, "*")


RULE = Rule(
    "keys-over-broad",
    "Keys that may more than one job needs",
    Severity.MEDIUM,
    "Narrow its scopes, addresses or grants.",
    _check,
)
