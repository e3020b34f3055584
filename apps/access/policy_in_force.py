"""The policy that this process goes by: read from the database by live configuration, asked in memory."""

from apps.access.models import AccessSettings, Grant, Override, Team, ToolRule
from apps.access.policy import Policy, TeamState
from apps.core import clock, live_config


def _load() -> Policy:
    rules = [row.rule() for rows in (Grant.objects.all(), ToolRule.objects.all()) for row in rows.iterator()]
    rules += [row.rule() for row in Override.objects.in_force(clock.now())]
    teams = {team.pk: TeamState(team.name, _suspended(team)) for team in Team.objects.all()}
    return Policy.of(rules, teams=teams, inner_agents_obey_grants=AccessSettings.current().inner_agents_obey_grants)


def _suspended(team: Team) -> str:
    return (team.suspended_reason or "ask whoever runs this gateway.") if team.suspended else ""


_POLICY = live_config.section("access.policy", _load, reads=[Grant, ToolRule, Override, Team, AccessSettings])


def policy_in_force() -> Policy:
    """Reads memory only, once the process has loaded its first snapshot."""
    return _POLICY.current()
