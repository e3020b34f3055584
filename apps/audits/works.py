"""The work that is done on a schedule. By Celery, or by a command (`manage.py scheduled`): it is the same functions.

Each is claimed before it is done, so that of two beats or two workers one does it, and each may be done twice without
harm all the same.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import structlog
from django.conf import settings

from apps.audits import auditing, claims
from apps.audits.alerts.deliver import deliver_due
from apps.audits.alerts.outbox import forget_old
from apps.audits.broken_agents import tell_of_broken
from apps.audits.time_limit import within_limit
from apps.core import clock
from apps.execution import purging
from apps.upstreams import refreshing
from apps.upstreams.models import Kind, Upstream

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Work:
    """`do` returns one line about what came of it. `at_least` are the seconds between two beginnings: a schedule that
    two beats keep fires twice within a few. `limit`: seconds that a worker gives it; `slow` says what to do when
    they are not enough."""

    name: str
    title: str
    do: Callable[[], str]
    at_least: float
    limit: float
    slow: str


def _audit() -> str:
    run = auditing.audit(by="schedule")
    deliver_due()
    return f"{_counted(run.found, 'finding')}, {run.new} new, {run.gone} gone. {run.error}".rstrip()


def _purge() -> str:
    return f"{_counted(purging.purge().rows, 'row')} removed."


def _probe() -> str:
    """What is due by GATEWAY_UPSTREAM_REFRESH, sooner those that do not fare well; server processes do the same."""
    return _asked(refreshing.refresh_due())


def _models() -> str:
    if not settings.GATEWAY_UPSTREAM_REFRESH:
        return "GATEWAY_UPSTREAM_REFRESH=0: nobody is asked."
    return _asked(refreshing.refresh(list(Upstream.objects.filter(enabled=True).exclude(kind=Kind.DEMO))))


def _asked(outcomes: list[refreshing.Outcome]) -> str:
    failed = [f"{one.upstream.slug}: {one.error.message}" for one in outcomes if one.error]
    return " ".join([f"{_counted(len(outcomes), 'upstream')} asked.", *failed])


def _alerts() -> str:
    broken = tell_of_broken()
    tried = deliver_due()
    forget_old(clock.now() - timedelta(days=90))
    done = [f"Newly broken: {', '.join(broken)}."] if broken else []
    return " ".join([*done, f"{_counted(len(tried), 'delivery', 'deliveries')} tried."])


def _repeat() -> str:
    repeated = auditing.repeat_cut_off()
    return "An audit was made in the place of one that was cut off." if repeated else "None was cut off."


def _counted(count: int, noun: str, plural: str = "") -> str:
    return f"{count} {noun if count == 1 else plural or noun + 's'}"


_MINUTE = 40.0  # of what is due every minute
_SLOW_UPSTREAM = (
    "Look under Upstreams which of them hangs, and mend or disable it; `manage.py scheduled {}` has no limit."
)
WORKS: Final = {
    work.name: work
    for work in (
        Work("audit", "Audit of all rules", _audit, at_least=600, limit=1800, slow=auditing.SLOW),
        Work("repeat", "Audits that were cut off are made again", _repeat, _MINUTE, limit=1800, slow=auditing.SLOW),
        Work(
            "alerts",
            "Newly broken agents, and alerts that wait",
            _alerts,
            _MINUTE,
            limit=600,
            slow="Look under Alerts which channel hangs, and mend or disable it; the next time tells the others.",
        ),
        Work("probes", "Health of the upstreams", _probe, _MINUTE, limit=120, slow=_SLOW_UPSTREAM.format("probes")),
        Work("models", "Model lists of the upstreams", _models, 600, limit=300, slow=_SLOW_UPSTREAM.format("models")),
        Work(
            "purge",
            "What was kept long enough is deleted",
            _purge,
            at_least=600,
            limit=1800,
            slow="The next time goes on where this one ended; `manage.py purge_runs` has no limit.",
        ),
    )
}


def do(name: str) -> str:
    """What came of it, in one line. Raises claims.Taken when another process does it or has just done so."""
    work = WORKS[name]
    try:
        with claims.held(f"work {name}", at_least=work.at_least) as said, within_limit(work.slow):
            said.append(work.do())
    except auditing.AlreadyRunning as error:
        raise claims.Taken(str(error)) from error
    result = " ".join(said)
    log.log(logging.DEBUG if work.at_least == _MINUTE else logging.INFO, "work_done", work=name, result=result)
    return result
