"""The health of upstreams as each worker observes it: what a process knows, as rows that the others can show."""

import os
import socket
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from django.conf import settings
from django.db import Error, connection

from apps.core import clock
from apps.core.ages import age
from apps.core.periodic import Periodic
from apps.upstreams import capacity, health
from apps.upstreams.health import Standing, State
from apps.upstreams.models import Upstream, UpstreamHealth

LOOK_SECONDS = 1.0  # between two looks at what this process knows; only what is new is written
HEARTBEAT = timedelta(seconds=10)
SILENT_AFTER = timedelta(seconds=35)  # three heartbeats missed: what it said does not count any more
DEAD_AFTER = timedelta(seconds=60)  # its rows are removed

log = structlog.get_logger(__name__)
Told = tuple[State, str, datetime | None]
Load = tuple[int, int]  # calls that run there, and that wait for a place


class HealthRows:
    """Those of this process; a process that serves nobody (a command) has none."""

    def __init__(self) -> None:
        self._worker = ""
        self._told: dict[str, Told] = {}
        self._loads: dict[str, Load] = {}
        self._beat_at = clock.now()
        self._thread = Periodic("upstream-health", self.tell, seconds=LOOK_SECONDS)

    def start(self) -> None:
        self._worker = f"{socket.gethostname()[:200]}:{os.getpid()}"
        self._told, self._loads, self._beat_at = {}, {}, clock.now() - HEARTBEAT
        self._thread.start()

    def stop(self) -> None:
        """A database that is away does not keep the process from ending: its rows go a minute later."""
        self._thread.stop()
        try:
            UpstreamHealth.objects.filter(worker=self._worker).delete()
        except Error as error:
            log.warning("health_rows_left_behind", error=str(error))
        finally:
            if not connection.in_atomic_block:
                connection.close()

    def tell(self) -> None:
        """Write what is new of what this process knows, and at every heartbeat that it lives. Raises DatabaseError."""
        now, known = clock.now(), _known()
        if known != self._told:
            self._write(known, now)
        if now >= self._beat_at + HEARTBEAT:
            self._beat(now)

    def _beat(self, now: datetime) -> None:
        mine = UpstreamHealth.objects.filter(worker=self._worker)
        if mine.update(seen_at=now) < len(self._told):  # another worker held this one for dead
            self._told = {}
        loads = {slug: (capacity.running_at(slug), capacity.waiting_at(slug)) for slug in self._told}
        for slug, (running, waiting) in loads.items():
            if (running, waiting) != self._loads.get(slug, (0, 0)):
                mine.filter(upstream__slug=slug).update(running=running, waiting=waiting)
        UpstreamHealth.objects.filter(seen_at__lt=now - DEAD_AFTER).delete()
        self._loads, self._beat_at = loads, now

    def _write(self, known: dict[str, Told], now: datetime) -> None:
        ids = dict(Upstream.objects.filter(slug__in=known).values_list("slug", "pk"))
        mine = UpstreamHealth.objects.filter(worker=self._worker)
        mine.exclude(upstream__in=ids.values()).delete()
        for slug, (state, reason, since) in known.items():
            if slug in ids and known[slug] != self._told.get(slug):
                said = {"state": state, "reason": reason, "since": since or now, "seen_at": now}
                UpstreamHealth.objects.update_or_create(worker=self._worker, upstream_id=ids[slug], defaults=said)
        self._told = known


def _known() -> dict[str, Told]:
    every: Iterable[tuple[str, Standing]] = health.standings().items()
    return {slug: (one.state, one.reason, one.since) for slug, one in every if one.state is not State.UNKNOWN}


health_rows = HealthRows()


# --- what is shown ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class WorkersView:
    """The health of an upstream as one worker observes it. `worker` is its host and process.

    `running` and `waiting` are its calls of a few seconds ago, counted where the upstream takes only so many at once.
    """

    worker: str
    state: State
    reason: str
    since: datetime
    running: int = 0
    waiting: int = 0


@dataclass(frozen=True, slots=True)
class ObservedHealth:
    """The health of an upstream over all workers. `views` are those of the workers that answer and know it."""

    state: State
    reason: str = ""
    since: datetime | None = None
    views: tuple[WorkersView, ...] = ()


def observed_health(upstreams: Sequence[Upstream]) -> Mapping[int, ObservedHealth]:
    """Of each of these, by its id. One query."""
    rows = UpstreamHealth.objects.filter(upstream__in=upstreams, seen_at__gte=clock.now() - SILENT_AFTER)
    views: dict[int, list[WorkersView]] = {}
    for row in rows:
        view = WorkersView(row.worker, State(row.state), row.reason, row.since, row.running, row.waiting)
        views.setdefault(row.upstream_id, []).append(view)
    return {one.pk: _together(views[one.pk]) if one.pk in views else _unserved(one) for one in upstreams}


def _together(views: Sequence[WorkersView]) -> ObservedHealth:
    """What all workers say; where they disagree, the upstream is degraded for the worst reason."""
    worst = max(views, key=lambda one: (_BADNESS[one.state], one.since))
    alike = [one for one in views if one.state is worst.state]
    since = min(one.since for one in alike)
    if len(alike) == len(views):
        return ObservedHealth(worst.state, worst.reason, since, tuple(views))
    counts = Counter(one.state for one in views)
    reason = f"{worst.state.capitalize()} for {counts[worst.state]} of {len(views)} workers: {worst.reason}"
    return ObservedHealth(State.DEGRADED, reason, since, tuple(views))


_NEWS = 300  # seconds that a reading is, where nobody is asked by itself
_BADNESS = {State.UNKNOWN: 0, State.HEALTHY: 1, State.DEGRADED: 2, State.DOWN: 3}


def _unserved(upstream: Upstream) -> ObservedHealth:
    """No worker has used it since it began: what was last heard when it was asked for its models.

    That it was well then says nothing of now, once it should have been asked again: calls may have failed since.
    """
    if upstream.last_error:
        return ObservedHealth(State.DOWN, upstream.last_error, upstream.answered_at)
    if not upstream.models_read_at:
        return ObservedHealth(State.UNKNOWN)
    now = clock.now()
    if upstream.models_read_at >= now - timedelta(seconds=settings.GATEWAY_UPSTREAM_REFRESH or _NEWS):
        return ObservedHealth(State.HEALTHY, "", upstream.models_read_at)
    heard = age(upstream.models_read_at, now).replace("\xa0", " ")
    return ObservedHealth(State.UNKNOWN, f"Its models were read {heard} ago; no worker that runs has asked it since.")
