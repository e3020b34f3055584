"""What needs an operator's attention: the sources, and the most urgent first.

A further source is one line of SOURCES: the permissions that its pages need, and a function that yields what it found.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from apps.console.access.matters import denials, open_doors, silent_rules, suspended_teams
from apps.console.audit_matters import audit_matters
from apps.console.matter import Matter
from apps.console.panels import matters as of
from apps.console.panels.look import Look


class Source(NamedTuple):
    needs: tuple[str, ...]
    find: Callable[[Look], Iterable[Matter]]


SOURCES: list[Source] = [
    Source(("access.view_limit",), of.limits),
    Source(("catalog.view_dropin",), of.workers),
    Source(("catalog.view_dropin",), of.folders),
    Source(("catalog.view_declaredagent",), of.declared),
    Source(("upstreams.view_upstream",), of.upstreams),
    Source(("tools.view_mcpserver",), of.servers),
    Source(("execution.view_run",), of.failing_agents),
    Source(("execution.view_run",), of.rows_not_written),
    Source((), of.disk),
    Source(("execution.view_approval",), of.approvals),
    Source(("access.view_team",), suspended_teams),
    Source(("access.view_override",), open_doors),
    Source(("access.view_grant", "access.view_toolrule"), silent_rules),
    Source(("access.view_denial",), denials),
    Source(("access.view_apikey",), of.keys),
    Source(("audits.view_finding",), lambda look: audit_matters(look.now)),
]


def matters(look: Look) -> list[Matter]:
    """Those that the viewer may see the remedy of."""
    found = [one for source in SOURCES if look.may(*source.needs) for one in source.find(look)]
    return sorted(found, key=lambda one: not one.is_urgent)
