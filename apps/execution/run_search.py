"""Runs by what is known of them, among millions: nothing is counted, and what picks few goes by an index.

Upstream, model and streamed have none: runs are looked through by time until a page is full.

Pages go by the place of their last run in time instead of by numbers: what is written meanwhile shifts no page, and the
hundredth page costs what the first one does.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from django.db.models import Q, QuerySet

from apps.execution.models import Outcome, Run


@dataclass(frozen=True, slots=True)
class Wanted:
    """What runs have to be; None is no matter. `text` is looked for in the codes and errors of failed runs."""

    agent_id: str | None = None
    key_id: int | None = None
    user_id: str | None = None
    outcome: str | None = None
    request_id: str | None = None
    upstream: str | None = None
    model: str | None = None
    streamed: bool | None = None
    since: datetime | None = None  # that time or later
    until: datetime | None = None  # before that time
    text: str | None = None


_NOT_EQUAL = {"since", "until", "text", "outcome"}


@dataclass(frozen=True, slots=True)
class Place:
    """Of a run in the list, which is by time, the latest first."""

    started_at: datetime
    run_id: str

    @classmethod
    def of(cls, run: Run) -> "Place":
        return cls(run.started_at, run.pk)

    @classmethod
    def read(cls, cursor: str) -> "Place":
        """Raises ValueError for what `cursor` never gave."""
        time, _, run_id = urlsafe_b64decode(cursor.encode()).decode().partition(" ")
        place = cls(datetime.fromisoformat(time), run_id)
        if place.started_at.tzinfo is None or not run_id or "\0" in run_id:
            raise ValueError(f"no place: {cursor!r}")
        return place

    @property
    def cursor(self) -> str:
        return urlsafe_b64encode(f"{self.started_at.isoformat()} {self.run_id}".encode()).decode()


@dataclass(frozen=True, slots=True)
class Part:
    """A page of runs. `after` is where the next one begins; None on the last one."""

    runs: list[Run]
    after: Place | None


def find(wanted: Wanted, *, limit: int, after: Place | None = None) -> Part:
    """One query, whatever is wanted. Raises DatabaseError."""
    rows = matching(wanted).order_by("-started_at", "-id")
    if after:
        # Not as an OR of two comparisons, for which databases leave the index.
        rows = rows.filter(started_at__lte=after.started_at).exclude(started_at=after.started_at, id__gte=after.run_id)
    found = list(rows[: limit + 1])
    runs = found[:limit]
    return Part(runs, Place.of(runs[-1]) if len(found) > limit else None)


def matching(wanted: Wanted) -> QuerySet[Run]:
    given = {one.name: getattr(wanted, one.name) for one in fields(wanted)}
    equal = {name: value for name, value in given.items() if value is not None and name not in _NOT_EQUAL}
    rows = Run.objects.filter(**equal)
    if wanted.user_id:
        rows = rows.exclude(user_id="")  # said once more, as the index has it
    if wanted.outcome is not None:
        rows = _with_outcome(rows, wanted.outcome)
    if wanted.since is not None:
        rows = rows.filter(started_at__gte=wanted.since)
    if wanted.until is not None:
        rows = rows.filter(started_at__lt=wanted.until)
    if wanted.text:
        says_so: Any = Q(error__icontains=wanted.text) | Q(error_code__icontains=wanted.text)
        rows = _with_outcome(rows, Outcome.FAILED).filter(says_so)
    return rows


def _with_outcome(rows: QuerySet[Run], outcome: str) -> QuerySet[Run]:
    rows = rows.filter(outcome=outcome)
    return rows if outcome == Outcome.COMPLETED else rows.exclude(outcome=Outcome.COMPLETED)  # as the index has it
