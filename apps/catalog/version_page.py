"""What an agent's page says: which version serves and since when, why not a newer one, and which can be put back.

Values for the template, read with a fixed number of queries; rules are functions over them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from django.db.models import BooleanField, ExpressionWrapper, Q
from django.template.defaultfilters import filesizeformat

from apps.catalog import archives, modules, serving_workers
from apps.catalog.models import (
    SHORT,
    AgentVersion,
    ApprovedVersion,
    Diagnostic,
    DropIn,
    PinnedVersion,
    ServingWorker,
    State,
)
from apps.catalog.serving_workers import SILENT_AFTER, Agreement
from apps.core import clock
from apps.core.ages import age

Label = tuple[str, str | None]  # words, and the colour of unfold's labels

STATE_COLOURS = {
    State.LIVE: "success",
    State.STALE: "warning",
    State.BROKEN: "danger",
    State.DENIED: "warning",
    State.GONE: None,
}
_DISCOVERY = {
    "watch": "watches the folders",
    "scan": "looks twice a second",
    "off": "does not look for edits",
}


@dataclass(frozen=True, slots=True)
class VersionRow:
    """`button` is empty when the version cannot be put back; `why_not` says why, where that needs saying."""

    digest: str
    first_loaded_at: datetime | None = None
    size: int = 0
    file_count: int = 0
    labels: tuple[Label, ...] = ()
    button: str = ""
    why_not: str = ""
    is_approved: bool = False

    @property
    def known_for(self) -> str:
        return age(self.first_loaded_at)

    @property
    def short(self) -> str:
        return self.digest[:SHORT]


@dataclass(frozen=True, slots=True)
class WorkerRow:
    worker: ServingWorker
    version: str  # short; "" when it serves none
    colour: str
    discovery: str
    silence: int  # seconds since its last sign of life
    is_silent: bool  # for so long that it does not count any more

    @property
    def runs_for(self) -> str:
        return age(self.worker.started_at)


@dataclass(frozen=True, slots=True)
class Page:
    drop_in: DropIn
    label: Label
    pin: PinnedVersion | None
    diagnostics: Sequence[Diagnostic]
    siblings: Sequence[str]  # further agents that the folder publishes
    versions: Sequence[VersionRow]
    workers: Sequence[WorkerRow]
    agreement: Agreement
    is_locked: bool  # only approved content is loaded

    @property
    def is_unapproved(self) -> bool:
        """Whether something is kept from serving because nobody has approved it."""
        return any(one.code == "not_approved" for one in self.diagnostics)

    @property
    def serves(self) -> str:
        return self.drop_in.digest[:SHORT]

    @property
    def serves_for(self) -> str:
        return age(self.drop_in.loaded_at)

    @property
    def problems(self) -> list[tuple[Diagnostic, str]]:
        """Each with its age."""
        return [(one, age(one.found_at)) for one in self.diagnostics]

    @property
    def pinned_for(self) -> str:
        return age(self.pin.pinned_at) if self.pin else ""

    @property
    def in_folder(self) -> str:
        return self.drop_in.disk_digest[:SHORT]

    @property
    def is_pinned_served(self) -> bool:
        return self.pin is not None and self.pin.digest == self.drop_in.digest

    @property
    def rescue(self) -> VersionRow | None:
        """The version to put back when an edit does not load: the one that serves, else the newest that can be.

        None when what lies in the folder has loaded before, or is not approved: then something else is wrong.
        """
        has_loaded = any(one.first_loaded_at for one in self.versions if one.digest == self.drop_in.disk_digest)
        if self.pin or has_loaded or self.is_unapproved or self.drop_in.state not in (State.STALE, State.BROKEN):
            return None
        possible = [one for one in self.versions if one.button]
        return next((one for one in possible if one.digest == self.drop_in.digest), possible[0] if possible else None)


def page(drop_in: DropIn) -> Page:
    pin = PinnedVersion.objects.select_related("pinned_by").filter(folder_id=drop_in.folder_id).first()
    siblings = DropIn.objects.filter(folder_id=drop_in.folder_id).exclude(Q(pk=drop_in.pk) | Q(folder_id=""))
    workers = list(ServingWorker.objects.all())
    now = clock.now()
    return Page(
        drop_in=drop_in,
        label=state_label(drop_in, is_pinned=pin is not None),
        pin=pin,
        diagnostics=diagnostics_of(drop_in),
        siblings=list(siblings.values_list("agent_id", flat=True)),
        versions=_version_rows(drop_in, pin),
        workers=[_worker_row(one, drop_in, now) for one in workers],
        agreement=serving_workers.agreement(drop_in.agent_id, [one for one in workers if not _is_silent(one, now)]),
        is_locked=modules.is_locked(),
    )


def state_label(drop_in: DropIn, *, is_pinned: bool) -> Label:
    if is_pinned and drop_in.state == State.LIVE:
        return "Put back", "warning"
    return drop_in.get_state_display(), STATE_COLOURS[State(drop_in.state)]


def diagnostics_of(drop_in: DropIn) -> list[Diagnostic]:
    """Those of its folder too: a folder may publish several agents."""
    return list(Diagnostic.objects.filter(agent_id__in={drop_in.agent_id, drop_in.folder_id}))


# --- versions --------------------------------------------------------------------------------------------------------


def _version_rows(drop_in: DropIn, pin: PinnedVersion | None) -> list[VersionRow]:
    is_kept = ExpressionWrapper(Q(archive__isnull=False), output_field=BooleanField())
    stored = AgentVersion.objects.filter(folder_id=drop_in.folder_id).defer("archive").annotate(is_kept=is_kept)
    rows = [_version_row(one, drop_in, pin) for one in stored]
    if drop_in.disk_digest and drop_in.disk_digest not in {one.digest for one in rows}:
        rows.insert(0, VersionRow(drop_in.disk_digest, labels=_labels(drop_in.disk_digest, drop_in, pin)))
    approved = set(ApprovedVersion.objects.filter(folder_id=drop_in.folder_id).values_list("digest", flat=True))
    return [_marked(one) if one.digest in approved else one for one in rows]


def _marked(row: VersionRow) -> VersionRow:
    return replace(row, is_approved=True, labels=(*row.labels, ("Approved", "success")))


def _version_row(version: Any, drop_in: DropIn, pin: PinnedVersion | None) -> VersionRow:
    row = VersionRow(
        version.digest,
        version.first_loaded_at,
        version.size,
        version.file_count,
        _labels(version.digest, drop_in, pin),
    )
    if not version.is_kept:
        limit = filesizeformat(archives.LARGEST)
        return replace(row, why_not=f"Larger than {limit}, so its files are not kept: it cannot be put back.")
    if drop_in.state == State.GONE:
        return replace(row, button="Restore")
    if drop_in.state == State.DENIED or (pin and pin.digest == version.digest):
        return row
    return replace(row, button="Keep" if version.digest == drop_in.digest else "Put back")


def _labels(digest: str, drop_in: DropIn, pin: PinnedVersion | None) -> tuple[Label, ...]:
    labels: list[Label] = []
    if digest == drop_in.digest:
        labels.append(("Serves", "success"))
    if pin and digest == pin.digest:
        labels.append(("Put back", "warning"))
    if digest == drop_in.disk_digest:
        fails = not pin and drop_in.state in (State.STALE, State.BROKEN)
        labels.append(("In the folder, does not serve", "danger") if fails else ("In the folder", "info"))
    return tuple(labels)


# --- workers ---------------------------------------------------------------------------------------------------------


def _worker_row(worker: ServingWorker, drop_in: DropIn, now: datetime) -> WorkerRow:
    version = str(worker.versions.get(drop_in.agent_id, ""))
    colour = "danger" if not version else "success" if version == drop_in.digest[:SHORT] else "warning"
    silence = max(0, round((now - worker.seen_at).total_seconds()))
    return WorkerRow(worker, version, colour, _DISCOVERY[worker.discovery], silence, _is_silent(worker, now))


def _is_silent(worker: ServingWorker, now: datetime) -> bool:
    return worker.seen_at < now - SILENT_AFTER
