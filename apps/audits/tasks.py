"""The scheduled work as Celery's tasks. The admin's schedules name them."""

from typing import Any

import structlog
from celery import shared_task

from apps.audits import claims
from apps.audits.alerts.deliver import deliver_due
from apps.audits.auditing import AlreadyRunning, audit
from apps.audits.time_limit import TookTooLong
from apps.audits.works import WORKS, do

log = structlog.get_logger(__name__)
_GRACE = 60  # seconds between being told to end and being ended


def _task(name: str) -> Any:
    work = WORKS[name]

    def run() -> str:
        try:
            return do(name)
        except claims.Taken:
            log.debug("work_left_to_another", work=name)
            return "Another process did it."
        except TookTooLong as error:
            log.error("work_took_too_long", work=name, limit=error.seconds)
            raise

    limits = {"soft_time_limit": work.limit, "time_limit": work.limit + _GRACE}
    run.__doc__ = work.title
    return shared_task(name=f"gateway.{name}", ignore_result=True, **limits)(run)


TASKS = {name: _task(name) for name in WORKS}


@shared_task(  # type: ignore[untyped-decorator]
    name="gateway.audit_now", ignore_result=True, soft_time_limit=1800, time_limit=1800 + _GRACE, expires=600
)
def audit_now(by: str) -> str:
    """The audit that somebody asked for on its page."""
    try:
        run = audit(by=by)
    except AlreadyRunning as reason:
        return str(reason)
    deliver_due()
    return f"Audit {run.pk} {run.outcome}."
