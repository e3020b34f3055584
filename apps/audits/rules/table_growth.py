"""What fills the database: what is never removed, what is large, and what grows fast."""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

from django.urls import reverse

from apps.audits import sizes
from apps.audits.models import AuditRun
from apps.audits.rule import Found, Rule, Severity
from apps.core import clock
from apps.execution.models import Recording

_MANY_ROWS = 5_000_000
_LARGE = 20 * 1024**3  # bytes
_SPAN = timedelta(days=7)  # over which growth is looked at
_SOME_ROWS = 100_000  # of fewer no growth is told
_FULL_SOON = 30  # days
_REMEDY = "Keep runs and steps for fewer days under Recording, and let the purge run (manage.py purge_runs)."


def _check() -> Iterator[Found]:
    link = reverse("admin:execution_recording_changelist")
    now = sizes.measured()
    for subject, message in [*_kept_for_ever(), *_large(now), *_grown(now)]:
        yield Found(subject, message, link=link)


def _kept_for_ever() -> Iterator[tuple[str, str]]:
    kept = Recording.row()
    for name, days in (("runs", kept.keep_runs_days), ("steps", kept.keep_steps_days)):
        if days == 0:
            yield f"{name} are kept for ever", f"No {name} are ever removed."


def _large(now: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for table, rows in now["tables"].items():
        if rows > _MANY_ROWS:
            yield f"table {table}", f"It holds about {rows:,} rows."
    if now["bytes"] > _LARGE:
        yield "database", f"It takes {now['bytes'] / 1024**3:,.0f} GB."


def _grown(now: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Since the last audit that lies a week back."""
    at = clock.now()
    before = AuditRun.objects.exclude(sizes={}).filter(started_at__lte=at - _SPAN).first()
    if before is None:
        return
    days = (at - before.started_at) / timedelta(days=1)
    for table, rows in now["tables"].items():
        former = before.sizes["tables"].get(table, 0)
        if rows > _SOME_ROWS and rows > 2 * former:
            yield f"growth of table {table}", f"It grew from about {former:,} to {rows:,} rows in {days:.0f} days."
    free, a_day = sizes.room(), (now["bytes"] - before.sizes["bytes"]) / days
    if free is not None and a_day > 0 and free < _FULL_SOON * a_day:
        yield (
            "disk of the database",
            f"{free / 1024**3:,.1f} GB are free; at the pace of the last {days:.0f} days they last {free / a_day:.0f}.",
        )


RULE = Rule("table-growth", "Tables that grow without an end", Severity.LOW, _REMEDY, _check)
