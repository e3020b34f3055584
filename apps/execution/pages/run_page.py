"""What a run's page says above its fields: what came of it, its steps, and where to read on.

Values for the template, read with a fixed number of queries, however many steps there are.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.urls import reverse
from django.utils.http import urlencode

from apps.access.models import ApiKey
from apps.catalog.models import SHORT, AgentVersion, DeclaredAgent, DropIn
from apps.core import clock
from apps.execution.models import Approval, Outcome, Recording, Run, RunStep, StepKind
from apps.execution.pages.shown import Label, cost_shown, outcome_label, time_shown
from apps.execution.pages.waterfall import Waterfall, waterfall
from apps.execution.step_rows import steps_of
from apps.observability.models import ErrorEvent
from apps.upstreams.models import Upstream

MOST_STEPS = 1000  # drawn; the rest is counted
_MOST_ERRORS = 5
_WRITTEN_WITHIN = timedelta(seconds=30)  # of a run's end, even on a busy machine
_A_MOMENT = timedelta(seconds=5)  # between a run and the row of what it asks for


@dataclass(frozen=True, slots=True)
class Link:
    """`url` is empty where there is nothing to lead to; `remark` says what that means."""

    text: str
    url: str = ""
    remark: str = ""


@dataclass(frozen=True, slots=True)
class Related:
    """What the run waits for, what came of that, or what it goes on from."""

    text: str
    link: Link


@dataclass(frozen=True, slots=True)
class RunPage:
    run: Run
    label: Label
    duration: str
    first_event: str
    tokens: str
    cost: str
    agent: Link
    version: Link
    key: Link
    upstream: Link
    user: Link
    related: Sequence[Related]
    errors: Sequence[ErrorEvent]  # the run's own first, where it was noted
    picture: Waterfall
    more_steps: int  # beyond those that are drawn
    why_no_steps: str
    records_contents: bool

    @property
    def is_own_error_noted(self) -> bool:
        """Whether the ring has the run's own error, and perhaps its remedy: then it need not be said twice."""
        return bool(self.errors) and _is_own(self.run, self.errors[0])


def run_page(run: Run, user: Any) -> RunPage:
    recording = Recording.objects.first() or Recording()
    steps = steps_of(run, MOST_STEPS + 1)
    more = RunStep.objects.filter(run_id=run.pk).count() - MOST_STEPS if len(steps) > MOST_STEPS else 0
    steps = steps[:MOST_STEPS]
    agent, version = _agent_and_version(run)
    return RunPage(
        run=run,
        label=outcome_label(run),
        duration=time_shown(run.duration_ms),
        first_event="" if run.first_event_ms is None else time_shown(run.first_event_ms),
        tokens=f"{'about ' if run.tokens_estimated else ''}{run.prompt_tokens} + {run.completion_tokens}",
        cost=cost_shown(run.cost_usd),
        agent=agent,
        version=version,
        key=_key(run),
        upstream=_upstream(run),
        user=_others_of_user(run),
        related=_related(run, steps),
        errors=_errors(run, user),
        picture=waterfall(run, steps),
        more_steps=more,
        why_no_steps="" if steps else why_no_steps(run, recording, clock.now()),
        records_contents=recording.record_contents,
    )


def why_no_steps(run: Run, recording: Recording, now: datetime) -> str:
    ended = run.started_at + timedelta(milliseconds=max(0.0, run.duration_ms))
    if now - ended < _WRITTEN_WITHIN:
        return "Its steps are not written yet. They follow within a second or two: load the page again."
    if recording.keep_steps_days and run.started_at < now - timedelta(days=recording.keep_steps_days):
        return f"Its steps are gone: they are kept for {_days(recording.keep_steps_days)}, which have passed."
    return (
        "No step was kept. It ended before its first one, or it ran before steps were recorded, or they were dropped: "
        "that happens, and is counted in the metrics, when more steps come than the database takes."
    )


def _days(number: int) -> str:
    return f"{number} day{'' if number == 1 else 's'}"


# --- where to read on ------------------------------------------------------------------------------------------------


def _agent_and_version(run: Run) -> tuple[Link, Link]:
    """The agent's page, and its version that ran."""
    short = run.agent_digest[:SHORT]
    if drop_in := DropIn.objects.filter(agent_id=run.agent_id).first():
        page = reverse("admin:catalog_dropin_change", args=[drop_in.pk])
        return Link(run.agent_id, page), _drop_ins_version(run, drop_in, page)
    namespace, _, name = run.agent_id.partition("/")
    if declared := DeclaredAgent.objects.filter(namespace=namespace, name=name).only("pk").first():
        page = reverse("admin:catalog_declaredagent_change", args=[declared.pk])
        versions = reverse("admin:catalog_declaredagent_versions", args=[declared.pk])
        return Link(run.agent_id, page), Link(short or "-", versions if short else "")
    if not run.agent_digest and namespace == run.upstream:
        return Link(run.agent_id, remark="a model of the upstream, as it is"), Link("-")
    return Link(run.agent_id, remark="is no longer there"), Link(short or "-")


def _drop_ins_version(run: Run, drop_in: DropIn, page: str) -> Link:
    short = run.agent_digest[:SHORT]
    if not short:
        return Link("-")
    url = f"{page}#version-{short}"
    if run.agent_digest == drop_in.digest:
        return Link(short, url, "serves now")
    is_known = AgentVersion.objects.filter(folder_id=drop_in.folder_id, digest=run.agent_digest).exists()
    return Link(short, url, "a former version") if is_known else Link(short, "", "its files are not kept")


def _key(run: Run) -> Link:
    if run.key_id and ApiKey.objects.filter(pk=run.key_id).exists():
        return Link(run.key_name or f"key {run.key_id}", reverse("admin:access_apikey_change", args=[run.key_id]))
    return Link(run.key_name or "-", remark="is no longer there" if run.key_id else "")


def _upstream(run: Run) -> Link:
    name = "/".join(part for part in (run.upstream, run.model) if part)
    pk = Upstream.objects.filter(slug=run.upstream).values_list("pk", flat=True).first() if run.upstream else None
    return Link(name or "-", reverse("admin:upstreams_upstream_change", args=[pk]) if pk else "")


def _others_of_user(run: Run) -> Link:
    name = run.user_name or run.user_id
    return Link(name, f"{reverse('admin:execution_run_changelist')}?{urlencode({'q': name})}") if name else Link("-")


def _errors(run: Run, user: Any) -> list[ErrorEvent]:
    """What was noted under the same request id, for who may see it."""
    if not run.request_id or not user.has_perm("observability.view_errorevent"):
        return []
    noted = ErrorEvent.objects.filter(request_id=run.request_id)[:_MOST_ERRORS]
    return sorted(noted, key=lambda event: not _is_own(run, event))


def _is_own(run: Run, event: ErrorEvent) -> bool:
    return bool(run.error) and event.message == run.error


# --- approvals -------------------------------------------------------------------------------------------------------


def _related(run: Run, steps: Sequence[RunStep]) -> list[Related]:
    """What it asked a person, and what a person had said when it began."""
    found = []
    if asked := _approval(run, steps, "created_at", ("waiting",)) if run.outcome == Outcome.WAITING else None:
        found += [Related(f"It asked for an approval ({asked.state()}):", _approval_link(asked))]
        found += _went_on_in(asked)
    if decided := _approval(run, steps, "decided_at", ("approved", "rejected")):
        found += [Related(f"It goes on after an approval ({decided.state()}):", _approval_link(decided))]
        found += _went_on_from(decided)
    return found


def _approval(run: Run, steps: Sequence[RunStep], moment: str, outcomes: Collection[str]) -> Approval | None:
    """By the reference that a step names; without steps by who asked and when, because an approval knows no run."""
    said = (step for step in steps if step.kind == StepKind.APPROVAL and step.outcome in outcomes)
    if reference := next((step.detail.get("reference") for step in said), None):
        return Approval.objects.filter(pk=reference).first()
    if steps:
        return None
    end = run.started_at + timedelta(milliseconds=max(0.0, run.duration_ms)) + _A_MOMENT
    mine = Approval.objects.filter(agent_id=run.agent_id, key_id=run.key_id or 0, user_id=run.user_id)
    return mine.filter(**{f"{moment}__range": (run.started_at, end)}).first()


def _approval_link(approval: Approval) -> Link:
    return Link(approval.pk, reverse("admin:execution_approval_change", args=[approval.pk]))


def _went_on_in(approval: Approval) -> list[Related]:
    if approval.decided_at is None:
        return []
    runs = _runs_of(approval).filter(started_at__lte=approval.decided_at, started_at__gt=approval.created_at)
    return [Related("It went on in the run", _run_link(run)) for run in runs.order_by("-started_at")[:1]]


def _went_on_from(approval: Approval) -> list[Related]:
    runs = _runs_of(approval).filter(started_at__lte=approval.created_at, outcome=Outcome.WAITING)
    return [Related("It goes on from the run", _run_link(run)) for run in runs.order_by("-started_at")[:1]]


def _runs_of(approval: Approval) -> Any:
    return Run.objects.filter(key_id=approval.key_id or None, agent_id=approval.agent_id, user_id=approval.user_id)


def _run_link(run: Run) -> Link:
    return Link(run.pk, reverse("admin:execution_run_change", args=[run.pk]))
