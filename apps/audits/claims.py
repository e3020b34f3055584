"""Claims of work that takes its time (`core/claims.py` has how one is taken).

Whoever holds a claim renews it while the work goes on. One that a killed process held runs out by itself.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from django.db.models import Q

from apps.audits.models import Claim
from apps.core import clock
from apps.core.ids import new_id
from apps.core.periodic import Periodic

LEASE = 60.0  # seconds without a sign of life after which a holder counts as dead


class Taken(Exception):
    """Another process does it, or did it just now."""


def new_holder() -> str:
    return f"{socket.gethostname()[:20]}:{os.getpid()}:{new_id('')[:12]}"


def take(name: str, *, holder: str, seconds: float, at_least: float = 0) -> bool:
    """Whether `holder` has the claim now, for so many seconds; with `at_least`, only when it was taken no later than so
    many seconds ago."""
    now = clock.now()
    free = Q(until__lte=now, taken_at__lte=now - timedelta(seconds=at_least))
    held = {"holder": holder, "taken_at": now, "until": now + timedelta(seconds=seconds)}
    return bool(Claim.objects.take(name, free=free, **held, ended_at=None, said="", is_failed=False))


def renew(name: str, *, holder: str, seconds: float) -> bool:
    """False when somebody else has taken it meanwhile."""
    mine = Claim.objects.filter(pk=name, holder=holder, ended_at=None)
    return bool(mine.update(until=clock.now() + timedelta(seconds=seconds)))


def give_back(name: str, *, holder: str, said: str = "", is_failed: bool = False) -> None:
    now = clock.now()
    mine = Claim.objects.filter(pk=name, holder=holder, ended_at=None)
    mine.update(until=now, ended_at=now, said=said, is_failed=is_failed)


def is_held(name: str) -> bool:
    return Claim.objects.filter(pk=name, until__gt=clock.now()).exists()


@contextmanager
def held(name: str, *, at_least: float = 0) -> Iterator[list[str]]:
    """Inside, this process has the claim. What is put into the list is kept as what came of it. Raises Taken."""
    holder = new_holder()
    if not take(name, holder=holder, seconds=LEASE, at_least=at_least):
        raise Taken(name)
    sign = Periodic(f"claim-{name}", lambda: renew(name, holder=holder, seconds=LEASE), seconds=LEASE / 4)
    sign.start()
    said: list[str] = []
    try:
        yield said
    except BaseException as error:
        words = "Its process was told to end." if isinstance(error, SystemExit) else str(error) or type(error).__name__
        give_back(name, holder=holder, said=words, is_failed=True)
        raise
    finally:
        sign.stop(patience=1.0)
    give_back(name, holder=holder, said=" ".join(said))
