from collections.abc import Iterator

from django.db.models import Q
from django.urls import reverse

from apps.access.limit_models import Limit
from apps.access.limits.rules import QUOTAS
from apps.access.models import ApiKey
from apps.audits.rule import Found, Rule, Severity
from apps.core import clock


def _check() -> Iterator[Found]:
    """Of keys for which no limit with a number counts: neither their own, nor their team's, nor everyone's."""
    has_a_number = Q(*((f"{quota.name}__isnull", False) for quota in QUOTAS), _connector=Q.OR)
    limits = Limit.objects.filter(has_a_number)
    if limits.filter(key=None, team=None).exists():
        return
    keys = ApiKey.objects.in_force(clock.now()).filter(may_chat=True)
    limited = Q(pk__in=limits.exclude(key=None).values("key")) | Q(team__in=limits.exclude(team=None).values("team"))
    for key in keys.exclude(limited):
        yield Found(
            f"key {key}",
            "Nothing limits how much it may use: a loop in a client can take every place and every cent.",
            link=reverse("admin:access_limit_changelist"),
        )


RULE = Rule(
    "limits-absent",
    "Keys without any limit",
    Severity.MEDIUM,
    "Make a limit for everyone under Limits, such as 60 requests a minute for each key.",
    _check,
)
