"""How long something is ago, for people."""

from datetime import datetime

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
