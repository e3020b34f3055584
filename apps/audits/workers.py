"""Which Celery workers run: each says so every few seconds, for the dashboard and for whoever wants something done."""

import os
import socket
from datetime import datetime, timedelta

from apps.audits.models import WorkerSeen
from apps.core import clock
from apps.core.periodic import Periodic

SIGN_SECONDS = 10.0
SILENT = timedelta(seconds=45)
_FORGOTTEN = timedelta(days=7)


def answering(now: datetime) -> list[WorkerSeen]:
    """Those that have been heard of lately."""
    return list(WorkerSeen.objects.filter(seen_at__gt=now - SILENT).order_by("started_at"))


def is_heard_of(host: str) -> bool:
    """Whether a worker of that host has been, lately."""
    lately = WorkerSeen.objects.filter(seen_at__gt=clock.now() - SILENT)
    return lately.filter(worker__startswith=f"{host}:").exists()


class Sign:
    """Of this process."""

    def __init__(self, *, has_beat: bool) -> None:
        self._name = f"{socket.gethostname()}:{os.getpid()}"[:200]
        self._known = {"started_at": clock.now(), "has_beat": has_beat}
        self._thread = Periodic("worker-seen", self.give, seconds=SIGN_SECONDS)

    def start(self) -> None:
        WorkerSeen.objects.filter(seen_at__lt=clock.now() - _FORGOTTEN).delete()
        self.give()
        self._thread.start()

    def give(self) -> None:
        WorkerSeen.objects.update_or_create(pk=self._name, defaults={**self._known, "seen_at": clock.now()})

    def stop(self) -> None:
        self._thread.stop()
        WorkerSeen.objects.filter(pk=self._name).delete()
