"""How things stand with audits and scheduled work, as values: for the dashboard, the metrics, and pages."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db.models import Count, Max, Q

from apps.audits import claims
from apps.audits.auditing import CLAIM
from apps.audits.models import AlertDelivery, AuditRun, Claim, Finding, WorkerSeen
from apps.audits.workers import SILENT, answering
from apps.core import clock
from apps.core.periodic import Periodic

_NO_BEAT = timedelta(minutes=5)  # some work is due every minute


@dataclass(frozen=True, slots=True)
class Standing:
    """`last` is the latest audit of all rules that has ended. `open` counts findings by (rule, severity). `fired_at`:
    when work was last begun by schedule. `given_up` are alerts of the last days that reached nobody."""

    at: datetime
    last: AuditRun | None = None
    running: AuditRun | None = None
    open: Mapping[tuple[str, str], int] = field(default_factory=dict)
    accepted: int = 0
    workers: int = 0
    seen_at: datetime | None = None
    workers_since: datetime | None = None
    fired_at: datetime | None = None
    given_up: int = 0

    def count(self, severity: str) -> int:
        return sum(count for (_, one), count in self.open.items() if one == severity)

    @property
    def has_no_beat(self) -> bool:
        """Workers wait, and nobody tells them when."""
        latest = max(filter(None, [self.fired_at, self.workers_since]), default=None)
        return bool(self.workers) and latest is not None and self.at - latest > _NO_BEAT


def standing(now: datetime) -> Standing:
    """Asks the database, with a fixed number of queries. Raises DatabaseError."""
    findings = Finding.objects.open(now).order_by().values_list("rule", "severity").annotate(count=Count("pk"))
    workers = answering(now)
    running = AuditRun.objects.filter(outcome=AuditRun.Outcome.RUNNING).first()
    recent = Q(state=AlertDelivery.State.FAILED, created_at__gt=now - timedelta(days=4))
    return Standing(
        at=now,
        last=AuditRun.objects.filter(is_whole=True, ended_at__isnull=False).first(),
        running=running if running and claims.is_held(CLAIM) else None,
        open={(rule, severity): count for rule, severity, count in findings},
        accepted=Finding.objects.accepted(now).count(),
        workers=len(workers),
        seen_at=WorkerSeen.objects.aggregate(at=Max("seen_at"))["at"],
        workers_since=workers[0].started_at if workers else None,
        fired_at=Claim.objects.filter(name__startswith="work ").aggregate(at=Max("taken_at"))["at"],
        given_up=AlertDelivery.objects.filter(recent).count(),
    )


def is_worker_seen() -> bool:
    return WorkerSeen.objects.filter(seen_at__gt=clock.now() - SILENT).exists()


# --- of a server process, for its metrics ----------------------------------------------------------------------------


class Keeper:
    """What this process knew a few seconds ago, so that whoever reads its metrics waits for no database."""

    def __init__(self, seconds: float = 15.0) -> None:
        self.known: Standing | None = None
        self._thread = Periodic("audit-standing", self.look, seconds=seconds)
        self.start = self._thread.start
        self.stop = self._thread.stop

    def look(self) -> None:
        self.known = standing(clock.now())


keeper = Keeper()
