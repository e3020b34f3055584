"""Agents of the discovery folders that have broken since the last look, told of once until they are mended."""

from typing import Any

from django.db import transaction

from apps.audits.alerts.outbox import tell_broken
from apps.audits.models import BrokenAgent
from apps.catalog.models import Diagnostic, DropIn, State
from apps.core import clock

_WORDS = {State.BROKEN: "broken", State.STALE: "served by its last good version"}


def tell_of_broken() -> list[str]:
    """The ids of those that are newly broken, of which alerts are written now."""
    now = clock.now()
    with transaction.atomic():
        broken = {one.agent_id: one for one in DropIn.objects.filter(state__in=_WORDS)}
        known = set(BrokenAgent.objects.values_list("pk", flat=True))
        BrokenAgent.objects.filter(pk__in=known - broken.keys()).delete()
        # Of two processes that look at once, the one whose row it becomes tells of it.
        new = [
            id
            for id in sorted(broken.keys() - known)
            if BrokenAgent.objects.get_or_create(pk=id, defaults={"since": now})[1]
        ]
        tell_broken([_values(broken[id]) for id in new], now)
    return new


def _values(agent: DropIn) -> dict[str, Any]:
    problem = Diagnostic.objects.filter(agent_id__in=[agent.agent_id, agent.folder_id], severity="error").first()
    return {
        "id": agent.agent_id,
        "pk": agent.pk,
        "state": _WORDS[State(agent.state)],
        "reason": problem.reason if problem else "",
        "remedy": problem.remedy if problem else "",
    }
