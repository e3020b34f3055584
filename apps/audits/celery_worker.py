"""A Celery worker and its beat, run by `manage.py worker`, or with signs of life by Celery's own command."""

# mypy: disable-error-code="untyped-decorator"
# Celery ships no types.

import logging
import os
import signal
import threading
import warnings
from collections.abc import Callable
from time import sleep
from typing import Any

from celery import current_app, signals
from celery.platforms import SecurityWarning
from django.conf import settings

from apps.audits.workers import Sign
from apps.upstreams.asking import shown_url

GRACE = 20.0  # seconds that a stop waits for tasks under way


class NoBroker(Exception):
    """The message is one sentence and a remedy."""


def broker_shown() -> str:
    """Without its password."""
    url: str = settings.CELERY_BROKER_URL
    return f"files in {settings.DATA_DIR / 'celery'}" if url == "folder://" else shown_url(url)


def refuse_without_broker() -> None:
    """Raises NoBroker."""
    try:
        with current_app.connection_for_write() as connection:
            connection.ensure_connection(
                max_retries=1, interval_start=0, timeout=settings.CELERY_BROKER_CONNECTION_TIMEOUT
            )
            connection.default_channel.close()
    except Exception as error:  # each of the brokers has errors of its own
        raise NoBroker(
            f"The broker at {broker_shown()} does not answer ({_said(error)}). Start it, or leave CELERY_BROKER_URL "
            "out: then messages are files of the data folder."
        ) from error


def _said(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(".")[:200]


def run(*, concurrency: int, has_beat: bool, ready: Callable[[], None]) -> int:
    """Works until a signal ends it; returns the exit code. `ready` is called once it takes tasks.

    SIGTERM and Ctrl-C wait for tasks under way, for GRACE seconds; those are then ended.
    """
    warnings.simplefilter("ignore", SecurityWarning)  # of root: containers run as root, and messages are JSON only
    worker = current_app.Worker(
        concurrency=concurrency,
        beat=has_beat,
        quiet=True,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=settings.CELERY_BROKER_URL.startswith(("folder", "redis")),
        task_events=False,
    )
    stops: list[tuple[str, str]] = []
    signals.worker_ready.connect(lambda **_: ready(), weak=False)
    signals.worker_shutting_down.connect(lambda sig, how, **_: stops.append((sig, how)), weak=False)
    worker.start()
    # Celery calls Ctrl-C a failure; here it is how a worker is stopped.
    return 0 if stops == [("SIGINT", "Warm")] else int(worker.exitcode or 0)


# --- whichever command started it ------------------------------------------------------------------------------------

_sign: Sign | None = None


@signals.setup_logging.connect
def _quieten(**_: Any) -> None:
    """Three lines for each task of each minute are nobody's news: `work_done` tells of what matters."""
    for noisy in ("celery.worker.strategy", "celery.app.trace", "celery.beat", "kombu.connection"):
        logger = logging.getLogger(noisy)
        logger.setLevel(max(logging.ERROR if noisy == "kombu.connection" else logging.WARNING, logger.level))


@signals.worker_ready.connect
def _begin(sender: Any, **_: Any) -> None:
    global _sign  # noqa: PLW0603  # a process is one worker
    _sign = Sign(has_beat=bool(getattr(sender.controller, "beat", False)))
    _sign.start()


@signals.worker_shutting_down.connect
def _hurry(**_: Any) -> None:
    """An audit may take half an hour, and whoever stops the worker does not wait for it: it is made again."""
    hurry = threading.Timer(GRACE, os.kill, (os.getpid(), signal.SIGQUIT))
    hurry.daemon = True  # a worker that has nothing to wait for is gone before
    hurry.start()


@signals.worker_shutdown.connect
def _end(**_: Any) -> None:
    if _sign:
        _sign.stop()


@signals.beat_embedded_init.connect
def _end_with_the_worker(**_: Any) -> None:
    """A worker that is killed leaves its beat behind, which would go on for ever."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            sleep(1)
        os._exit(1)

    threading.Thread(target=watch, name="worker-lives", daemon=True).start()
