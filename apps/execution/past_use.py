"""What was used of the current day and month, by the record of runs: limits count on from there after a restart."""

from collections.abc import Iterator
from datetime import datetime

from django.db.models import Count, F, Q, Sum

from apps.access.limits.keeper import PastUse
from apps.execution.models import Run


def past_use(before: datetime) -> Iterator[PastUse]:
    """Of every key, person and agent, from the beginning of the month (UTC) to the instant `before`. One query."""
    day = before.replace(hour=0, minute=0, second=0, microsecond=0)
    today = Q(started_at__gte=day)
    groups = Run.objects.filter(started_at__gte=day.replace(day=1), started_at__lt=before, key_id__isnull=False)
    sums = (
        groups.order_by()
        .values_list("key_id", "user_id", "agent_id")
        .annotate(
            requests=Count("pk", filter=today),
            tokens=Sum(F("prompt_tokens") + F("completion_tokens"), filter=today, default=0),
            usd=Sum("cost_usd", default=0.0),
        )
    )
    return (PastUse(*one) for one in sums.iterator())
