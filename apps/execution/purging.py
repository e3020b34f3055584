"""What is kept of runs is taken out again when its time is over, a little at a time.

Whoever calls `purge` (a server process by itself, `manage.py purge_runs`, a task) may do so as often as it likes, also
at the same time as others: what one has deleted, the other does not find.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from time import sleep
from typing import Final

import structlog
from django.db.models import Model, Q

from apps.core import clock
from apps.core.periodic import Periodic
from apps.execution.models import Approval, OpenTurn, Purge, Recording, Run, RunBucket, RunStep
from apps.execution.recording_rules import rules_of

AT_ONCE: Final = 1_000  # rows a transaction: on SQLite all other writers wait for it
PAUSE: Final = 0.1  # seconds between two, which are the others'
KEEP_BUCKETS: Final = timedelta(days=400)  # a year beside the one before
EVERY: Final = timedelta(hours=1)
_LOOK_SECONDS: Final = 300.0

log = structlog.get_logger(__name__)

Progress = Callable[["Purged"], None]


@dataclass(slots=True)
class Purged:
    """How many rows are out; of a dry run, how many would be."""

    steps: int = 0
    runs: int = 0
    buckets: int = 0
    approvals: int = 0
    open_turns: int = 0

    @property
    def rows(self) -> int:
        return self.steps + self.runs + self.buckets + self.approvals + self.open_turns


@dataclass(frozen=True, slots=True)
class _Over:
    """Rows whose time is over, and what Purged calls them."""

    name: str
    model: type[Model]
    which: Q
    order: str


def purge(*, dry_run: bool = False, progress: Progress | None = None, pause: float = PAUSE) -> Purged:
    """Delete what has been kept for as long as it should, in small transactions; `progress` hears of each.

    Raises DatabaseError; what was deleted until then stays deleted. Uses the settings in the database.
    """
    purged = Purged()
    for over in _all_over(clock.now()):
        if dry_run:
            setattr(purged, over.name, over.model._default_manager.filter(over.which).count())  # noqa: SLF001
            continue
        while count := _delete_some(over):
            setattr(purged, over.name, getattr(purged, over.name) + count)
            if progress:
                progress(purged)
            if count < AT_ONCE:
                break
            sleep(pause)
    if purged.rows and not dry_run:
        log.info("runs_purged", runs=purged.runs, steps=purged.steps, buckets=purged.buckets)
    return purged


def _all_over(now: datetime) -> Iterator[_Over]:
    rules = rules_of(Recording.row())
    days = [one for one in (rules.keep_steps_days, rules.keep_runs_days) if one is not None]
    if days:  # steps do not outlive their runs
        yield _Over("steps", RunStep, Q(run_started_at__lt=now - timedelta(days=min(days))), "run_started_at")
    if rules.keep_runs_days is not None:
        yield _Over("runs", Run, Q(started_at__lt=now - timedelta(days=rules.keep_runs_days)), "started_at")
    yield _Over("buckets", RunBucket, Q(began_at__lt=now - KEEP_BUCKETS), "began_at")
    yield _Over("approvals", Approval, Q(expires_at__lt=now), "expires_at")
    yield _Over("open_turns", OpenTurn, Q(expires_at__lt=now), "expires_at")


def _delete_some(over: _Over) -> int:
    rows = over.model._default_manager  # noqa: SLF001  # Django documents it
    oldest = rows.filter(over.which).order_by(over.order).values("pk")[:AT_ONCE]
    return int(rows.filter(pk__in=oldest).delete()[0])


# --- beside the requests of a server process -------------------------------------------------------------------------


class Purger:
    """One process of several purges, once an hour."""

    def __init__(self) -> None:
        self._thread = Periodic("purge-runs", self.look, seconds=_LOOK_SECONDS)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._thread.stop(patience=1.0)  # a purge under way is left in the middle, and goes on elsewhere

    def look(self) -> None:
        """Purge, if it is time and no other process does. Raises DatabaseError."""
        now = clock.now()
        if Purge.claim(now, EVERY):
            purged = purge()
            Purge.note(clock.now(), runs=purged.runs, steps=purged.steps)


purger: Final = Purger()
