"""An audit that somebody asks for and does not wait for: in a Celery worker if one is seen, else in a thread here."""

import threading
from contextvars import copy_context

import structlog
from django.db import connections
from kombu.exceptions import OperationalError

from apps.audits.alerts.deliver import deliver_due
from apps.audits.auditing import AlreadyRunning, audit
from apps.audits.standing import is_worker_seen

log = structlog.get_logger(__name__)


def start(by: str) -> str:
    """Returns at once, with the words on where it runs."""
    if is_worker_seen():
        from apps.audits.tasks import audit_now

        try:
            audit_now.apply_async(args=[by])
        except (OperationalError, OSError) as error:
            log.warning("audit_not_sent", reason=str(error))
            why = "the broker of the Celery workers does not answer"
        else:
            return "The audit was given to a Celery worker, which begins within a second."
    else:
        why = "no Celery worker is seen"
    threading.Thread(target=copy_context().run, args=[_run, by], name="audit", daemon=True).start()
    return f"The audit runs in this server process, because {why}."


def _run(by: str) -> None:
    try:
        audit(by=by)
        deliver_due()
    except AlreadyRunning as reason:
        log.info("audit_left_to_another", reason=str(reason))
    except Exception as error:  # the row says so too; nobody waits for this thread
        log.error("audit_failed", exc_info=error)
    finally:
        connections.close_all()
