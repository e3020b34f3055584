"""Lines of Celery's workers: in the gateway's form, with the task that they are about."""

from collections.abc import Mapping
from typing import Any

from celery import signals

from apps.observability import context, logs

_before: dict[
    str, Mapping[str, Any]
] = {}  # by task id: the facts that held, for a task that runs in place of its caller


def install() -> None:
    """Call once where the Celery app is made. Celery then leaves the loggers as they are."""
    signals.setup_logging.connect(_leave_logging, weak=False)
    signals.worker_process_init.connect(_settle, weak=False)
    signals.worker_ready.connect(_settle, weak=False)
    signals.task_prerun.connect(_begin, weak=False)
    signals.task_postrun.connect(_end, weak=False)


def _leave_logging(**_: Any) -> None:
    """That somebody listens is what Celery looks at; Django has set it up."""


def _settle(**_: Any) -> None:
    logs.settle()


def _begin(task_id: str, task: Any, **_: Any) -> None:
    _before[task_id] = context.current()
    context.begin(task_id=task_id, task=task.name)


def _end(task_id: str, **_: Any) -> None:
    context.begin(**_before.pop(task_id, {}))
