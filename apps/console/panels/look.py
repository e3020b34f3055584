"""One look at the gateway for one viewer: every table is read once, however many panels tell of it."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, NamedTuple

from apps.catalog import registry, serving_workers
from apps.catalog.models import DropIn, ServingWorker, State
from apps.catalog.registry import Entry
from apps.core import clock, live_config
from apps.execution.buckets import Counts, of_agents
from apps.tools.models import McpServer
from apps.upstreams.health_rows import ObservedHealth, observed_health
from apps.upstreams.models import Upstream

DAY = timedelta(hours=24)
HOUR = timedelta(hours=1)


class Folder(NamedTuple):
    """An agent that has a folder. `enabled` is None where no operator has set anything."""

    pk: int
    agent_id: str
    folder_id: str
    state: State
    enabled: bool | None

    @property
    def serves(self) -> bool:
        return self.state in (State.LIVE, State.STALE) and self.enabled is not False


class Look:
    """No rows are read before a panel asks for them, so that what a viewer may not see costs nothing either.

    `unheard_for` is for how many seconds this process has not heard of the configuration; 0 while it hears of it.
    """

    def __init__(self, user: Any) -> None:
        self._user = user
        self.now: datetime = clock.now()
        # Asked first: what is read for this page does not make up for a process that has not heard of changes.
        self.unheard_for = live_config.seconds_since_check() if live_config.is_stale() else 0.0
        live_config.refresh()  # a page must not show what was before the last click

    def may(self, *permissions: str) -> bool:
        """Whether the viewer has all of these."""
        return bool(self._user.is_active and self._user.has_perms(permissions))

    @cached_property
    def upstreams(self) -> Sequence[tuple[Upstream, ObservedHealth]]:
        rows = list(Upstream.objects.all())
        found = observed_health(rows)
        return [(row, found[row.pk]) for row in rows]

    @cached_property
    def agents(self) -> Sequence[Folder]:
        """As the list of agents has them: those too whose folder is gone."""
        rows = DropIn.objects.order_by("agent_id")
        columns = rows.values_list("pk", "agent_id", "folder_id", "state", "settings__enabled")
        return [Folder(pk, agent_id, folder_id, State(state), on) for pk, agent_id, folder_id, state, on in columns]

    @property
    def folders(self) -> Sequence[Folder]:
        """Those whose folder is still there."""
        return [one for one in self.agents if one.state is not State.GONE]

    @cached_property
    def declared(self) -> Mapping[str, Entry]:
        """By their ids."""
        return registry.declared_entries()

    @cached_property
    def workers(self) -> Sequence[ServingWorker]:
        return list(serving_workers.answering(self.now))

    @cached_property
    def servers(self) -> Sequence[McpServer]:
        """The MCP servers that are to be connected."""
        return list(McpServer.objects.filter(enabled=True).exclude(parent__enabled=False).order_by("state_since"))

    @cached_property
    def of_day(self) -> Mapping[str, Counts]:
        """What the runs of the last 24 hours come to, by agent."""
        return of_agents(self.now - DAY, self.now)

    @cached_property
    def of_hour(self) -> Mapping[str, Counts]:
        return of_agents(self.now - HOUR, self.now)
