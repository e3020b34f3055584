"""Which server process serves which version: every worker keeps one row, so that the admin can show that they agree."""

import os
import socket
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog
from django.db import Error, connection
from django.db.models import QuerySet

from apps.catalog.generations import Found
from apps.catalog.models import SHORT, ServingWorker, State
from apps.catalog.watch import Mode
from apps.core import clock, ids

HEARTBEAT = timedelta(seconds=10)
SILENT_AFTER = timedelta(seconds=35)  # three heartbeats missed: it does not count any more
DEAD_AFTER = timedelta(seconds=60)  # its row is removed

log = structlog.get_logger(__name__)


class ThisWorker:
    """The row of this process; a process that serves nobody (a command) has none."""

    def __init__(self) -> None:
        self._row: ServingWorker | None = None
        self._told: Found | None = None
        self._discovery: Callable[[], Mode] = lambda: Mode("off")

    def enter(self, discovery: Callable[[], Mode]) -> None:
        """From the next `tell` on, this process has a row. `discovery` tells how it follows the folders."""
        now = clock.now()
        self._told, self._discovery = None, discovery
        self._row = ServingWorker(
            worker_id=ids.new_id("w"),
            host=socket.gethostname()[:200],
            pid=os.getpid(),
            started_at=now,
            seen_at=now,
        )

    def tell(self, found: Found) -> None:
        """Write what this process serves when that is new, and at every heartbeat that it lives. Raises Error."""
        row, now = self._row, clock.now()
        if row is None or (found is self._told and now < row.seen_at + HEARTBEAT):
            return
        mode = self._discovery()
        living = {"seen_at": now, "discovery": mode.name, "discovery_reason": mode.reason}
        seen = ServingWorker.objects.filter(worker_id=row.worker_id).update(**living)
        if found is not self._told or not seen:  # another worker held this one for dead
            defaults = _values(row) | living | {"versions": _versions(found)}
            ServingWorker.objects.update_or_create(worker_id=row.worker_id, defaults=defaults)
        ServingWorker.objects.filter(seen_at__lt=now - DEAD_AFTER).delete()
        row.seen_at, self._told = now, found

    def leave(self) -> None:
        """The process ends. A database that is away does not keep it from ending: its row goes a minute later."""
        row, self._row = self._row, None
        try:
            if row:
                ServingWorker.objects.filter(worker_id=row.worker_id).delete()
        except Error as error:
            log.warning("worker_row_left_behind", error=str(error))
        finally:
            if not connection.in_atomic_block:
                connection.close()


def _values(row: ServingWorker) -> dict[str, Any]:
    return {name: getattr(row, name) for name in ("host", "pid", "started_at")}


def _versions(found: Found) -> dict[str, str]:
    return {
        agent_id: serving.generation.digest[:SHORT] if serving.generation and serving.state != State.BROKEN else ""
        for agent_id, serving in found.agents.items()
    }


this_worker = ThisWorker()


# --- what the admin shows --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Agreement:
    """How many of the workers serve the version of an agent that most of those serve that serve any."""

    version: str  # short; "" for none
    workers: int
    of: int

    @property
    def is_reached(self) -> bool:
        return self.workers == self.of


def answering(now: datetime) -> QuerySet[ServingWorker]:
    """The workers that gave a sign of life lately."""
    return ServingWorker.objects.filter(seen_at__gte=now - SILENT_AFTER)


def agreement(agent_id: str, workers: Iterable[ServingWorker]) -> Agreement:
    served = [str(one.versions.get(agent_id, "")) for one in workers]
    counts = Counter(version for version in served if version) or Counter(served) or Counter({"": 0})
    version, count = counts.most_common(1)[0]
    return Agreement(version, count, len(served))


def disputed(workers: Iterable[ServingWorker]) -> set[str]:
    """The agents of which these workers serve different versions."""
    versions = [one.versions for one in workers]
    agent_ids = {agent_id for one in versions for agent_id in one}
    return {agent_id for agent_id in agent_ids if len({one.get(agent_id, "") for one in versions}) > 1}
