"""The policy that this process goes by: read from the database by live configuration, asked in memory."""

from collections.abc import Iterator

from apps.access.models import AccessSettings, Grant, Override, Team, ToolRule, place_of
from apps.access.policy import Effect, Kind, Policy, Rule, TeamState
from apps.core import clock, live_config

_EFFECTS = {effect.value: effect for effect in Effect}
_CHUNK = 5000  # rows read at once


def _load() -> Policy:
    rules = [*_grants(), *(row.rule() for row in ToolRule.objects.all())]
    rules += [row.rule() for row in Override.objects.in_force(clock.now())]
    teams = {team.pk: TeamState(team.name, _suspended(team)) for team in Team.objects.all()}
    return Policy.of(rules, teams=teams, inner_agents_obey_grants=AccessSettings.row().inner_agents_obey_grants)


def _grants() -> Iterator[Rule]:
    """As Grant.rule() makes them, without a model instance for each: there is at least one for every key."""
    columns = Grant.objects.values_list("pk", "effect", "agents", "note", "key_id", "team_id", "namespace")
    for pk, effect, pattern, note, key_id, team_id, namespace in columns.iterator(chunk_size=_CHUNK):
        place = place_of(key_id, team_id, namespace)
        yield Rule(f"grant-{pk}", Kind.AGENT, _EFFECTS[effect], pattern, *place, note=note)


def _suspended(team: Team) -> str:
    return (team.suspended_reason or "ask whoever runs this gateway.") if team.suspended else ""


_POLICY = live_config.section(
    "access.policy", _load, reads=[Grant, ToolRule, Override, Team, AccessSettings], fails_closed=True
)


def policy_in_force() -> Policy:
    """Reads memory only, once the process has loaded its first snapshot."""
    return _POLICY.current()
