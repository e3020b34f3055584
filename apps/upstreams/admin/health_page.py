"""What an upstream's page says of its health: values for the template, in words."""

from dataclasses import dataclass

from django.conf import settings

from apps.core.ages import age
from apps.upstreams.health import State
from apps.upstreams.health_rows import ObservedHealth, WorkersView, observed_health
from apps.upstreams.models import Kind, Upstream

Label = tuple[str, str | None]  # words, and the colour of unfold's labels

_LABELS: dict[State, Label] = {
    State.HEALTHY: ("Healthy", "success"),
    State.DEGRADED: ("Degraded", "warning"),
    State.DOWN: ("Down", "danger"),
    State.UNKNOWN: ("Not tried yet", "warning"),
}


@dataclass(frozen=True, slots=True)
class WorkerRow:
    worker: str
    label: Label
    reason: str
    since: str  # for how long
    load: str  # empty where calls are not counted, or there are none


@dataclass(frozen=True, slots=True)
class HealthPage:
    label: Label
    reason: str
    since: str  # for how long; empty where nothing is known
    remedy: str
    workers: tuple[WorkerRow, ...]


def label(upstream: Upstream, observed: ObservedHealth) -> Label:
    if not upstream.enabled:
        return "Disabled", None
    if upstream.kind == Kind.DEMO and observed.state is not State.DOWN:
        return "Demo, no LLM", "info"
    if observed.state is State.UNKNOWN and observed.reason:
        return "Unknown", None
    return _LABELS[observed.state]


def health_page(upstream: Upstream) -> HealthPage:
    """One query."""
    observed = observed_health([upstream])[upstream.pk]
    rows = tuple(map(_row, observed.views))
    is_on = upstream.enabled
    reason, since = (observed.reason, observed.since) if is_on else ("", None)
    return HealthPage(
        label(upstream, observed),
        reason,
        age(since),
        remedy(upstream, observed) if is_on else "",
        rows,
    )


def _row(view: WorkersView) -> WorkerRow:
    load = f"{view.running} running, {view.waiting} waiting" if view.running or view.waiting else ""
    return WorkerRow(view.worker, _LABELS[view.state], view.reason, age(view.since), load)


def remedy(upstream: Upstream, observed: ObservedHealth) -> str:
    """What an operator does about it; empty while all is well."""
    match observed.state:
        case State.DOWN if upstream.last_error_code == "upstream_unauthorised":
            return "Enter its API key again below, and save."
        case State.DOWN if settings.GATEWAY_UPSTREAM_REFRESH:
            return (
                "Mend it there. It is asked again every 15 seconds, and used again when it answers; Test asks at once."
            )
        case State.DOWN:
            return "Mend it there, then press Test."
        case State.DEGRADED:
            return "It is still used. Look into that server's log if this goes on; Test asks it now."
        case State.UNKNOWN if upstream.kind != Kind.DEMO:
            return "Press Test: it reads the models and asks one of them for a word."
    return ""
