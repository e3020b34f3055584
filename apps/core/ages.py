"""How long something is ago, for people."""

from datetime import datetime

from django.utils import timezone
from django.utils.html import format_html
from django.utils.timesince import timesince

from apps.core import clock


def age(since: datetime | None, now: datetime | None = None) -> str:
    """`12 seconds`, `3 hours`; empty when there is no beginning."""
    if since is None:
        return ""
    now = now or clock.now()
    seconds = max(0, round((now - since).total_seconds()))
    if seconds < 60:  # Django says "0 minutes"
        return f"{seconds} {'second' if seconds == 1 else 'seconds'}"
    return timesince(since, now, depth=1)


def ago(at: datetime | None, now: datetime | None = None) -> str:
    """`12 seconds ago` as HTML, with the exact time under the pointer; a dash for never."""
    if at is None:
        return "-"
    exactly = f"{timezone.localtime(at):%Y-%m-%d %H:%M:%S %Z}"
    return format_html('<span class="whitespace-nowrap" title="{}">{} ago</span>', exactly, age(at, now))
