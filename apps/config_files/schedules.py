"""The beat's schedules in files: what, and when, in one text each.

Nightly audit:
  task: gateway.audit
  at: 0 3 * * *            # minute, hour, day of month, month, day of week; a time zone may follow
Model lists:
  task: gateway.models
  every: 1 hour
"""

import zoneinfo
from typing import Any, Final

from django.core.exceptions import ValidationError
from django.db.models import Model, QuerySet
from django_celery_beat.models import CrontabSchedule, IntervalSchedule, PeriodicTask

from apps.audits.works import WORKS

_PREFIX: Final = "gateway."
_FIELDS: Final = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week")

# Of PeriodicTask, what the console does not set either.
NOT_IN_FILES: Final = (
    "solar", "clocked", "args", "kwargs", "queue", "exchange", "routing_key", "headers", "priority", "expires",
    "one_off", "start_time", "last_run_at", "total_run_count", "date_changed",
)  # fmt: skip


def rows() -> QuerySet[Any]:
    """Those of the gateway's works; Celery keeps one of its own."""
    found: QuerySet[Any] = PeriodicTask.objects.filter(task__startswith=_PREFIX).order_by("name")
    return found


def check_moment(row: PeriodicTask) -> None:
    """Raises ValidationError."""
    if bool(row.interval) == bool(row.crontab):
        raise ValidationError("It needs either `at: 0 3 * * *` or `every: 15 minutes`.")


def check(row: PeriodicTask) -> None:
    """Raises ValidationError."""
    if row.task.removeprefix(_PREFIX) not in WORKS or not row.task.startswith(_PREFIX):
        known = ", ".join(f"{_PREFIX}{name}" for name in WORKS)
        raise ValidationError({"task": f"There is no work “{row.task}”. There is {known}."})


def is_one(value: object) -> bool:
    return isinstance(value, CrontabSchedule | IntervalSchedule)


def name_of(row: CrontabSchedule | IntervalSchedule) -> str:
    """What `find` takes."""
    if isinstance(row, IntervalSchedule):
        return f"{row.every} {row.period.rstrip('s') if row.every == 1 else row.period}"
    return " ".join([*(getattr(row, field).replace(" ", "") for field in _FIELDS), str(row.timezone)])


def find(model: type[Model], text: str) -> Model:
    """The row for that moment, made when there is none. Raises ValueError with a sentence."""
    values = _interval(text) if issubclass(model, IntervalSchedule) else _crontab(text)
    found: Model | None = model._default_manager.filter(**values).first()  # noqa: SLF001  # Django documents it
    if found is None:
        found = model(**values)
        try:
            found.full_clean()
        except ValidationError as error:
            raise ValueError(f"“{text}” is no moment: {' '.join(error.messages)}") from error
        found.save()
    return found


def _interval(text: str) -> dict[str, Any]:
    number, _, period = text.strip().partition(" ")
    period = period.strip().rstrip("s") + "s"
    if not number.isdecimal() or not 0 < int(number) < 2**31 or period not in dict(IntervalSchedule.PERIOD_CHOICES):
        raise ValueError(f"“{text}” is no span; write it as 15 minutes")
    return {"every": int(number), "period": period}


def _crontab(text: str) -> dict[str, Any]:
    parts = text.split()
    if len(parts) not in (5, 6):
        raise ValueError(f"“{text}” is no moment; write it as for cron, 0 3 * * *, and a time zone if you like")
    values: dict[str, Any] = dict(zip(_FIELDS, parts, strict=False))
    zone = parts[5] if len(parts) == 6 else str(CrontabSchedule._meta.get_field("timezone").get_default())  # noqa: SLF001
    if zone not in zoneinfo.available_timezones():
        raise ValueError(f"“{zone}” is no time zone; write it as Europe/Berlin")
    return {**values, "timezone": zone}
