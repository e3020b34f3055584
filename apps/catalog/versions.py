"""Versions of agents that operators can put back: kept when they load, pinned by an operator, followed by all workers.

A version belongs to a folder, not to an agent: agents that one folder publishes share theirs. `folder_id` is the agent
id that the folder has in a scan.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from types import MappingProxyType
from typing import Any

from django.conf import settings
from django.db import transaction
from django.template.defaultfilters import filesizeformat

from apps.catalog import archives, scan
from apps.catalog.archives import Archive, Damaged
from apps.catalog.models import SHORT, AgentVersion, ApprovedVersion, PinnedVersion
from apps.core import clock, live_config
from apps.core.errors import InvalidRequest

KEPT = 5  # versions of each folder, the pinned one apart
_BATCH = 50  # folders packed at one look, some 40 ms: a first start with a thousand must not hold up the looks
_RETRY_SECONDS = 10.0  # until a folder that was being written to is packed after all


def folder_id(agent_id: str, folder: Path) -> str:
    """`default/desk` for the agent `default/desk.triage`, one of several that the folder Desk publishes."""
    return scan.agent_id(agent_id.partition("/")[0], folder.name)


# --- what operators decide -------------------------------------------------------------------------------------------


def _load_pins() -> Mapping[str, str]:
    return MappingProxyType(dict(PinnedVersion.objects.values_list("folder_id", "digest")))


PINS = live_config.section("catalog.pins", _load_pins, reads=[PinnedVersion])


class CannotPutBack(InvalidRequest):
    """The version is not kept, or its folder cannot be written."""


@transaction.atomic
def put_back(folder_id: str, digest: str, *, by: Any = None) -> AgentVersion:
    """Let this version serve instead of what lies in the folder, in all workers within about a second.

    Raises CannotPutBack.
    """
    kept = AgentVersion.objects.defer("archive").exclude(archive=None)
    version = kept.filter(folder_id=folder_id, digest=digest).first()
    if version is None:
        raise CannotPutBack(f"Version {digest[:SHORT]} of {folder_id} is not kept. Choose one that is listed.")
    AgentVersion.objects.filter(pk=version.pk).update(last_loaded_at=clock.now())
    PinnedVersion.objects.update_or_create(folder_id=folder_id, defaults={"digest": digest, "pinned_by": by})
    return version


def restore(folder_id: str, digest: str, folder: Path) -> None:
    """Write a version's files to `folder`, which is gone: in one step, for discovery to find there. Ends a pin.

    What the version did not count (databases, logs) does not come back. Raises CannotPutBack.
    """
    content = stored_files(folder_id, digest)
    if content is None:
        raise CannotPutBack(f"Version {digest[:SHORT]} of {folder_id} is not kept. Choose one that is listed.")
    if not any(folder.is_relative_to(root) and folder != root for root in settings.GATEWAY_AGENT_DISCOVERY_PATH):
        raise CannotPutBack(f"{folder} does not lie in a discovery folder any more (GATEWAY_AGENT_DISCOVERY_PATH).")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder.parent, prefix=".") as beside:  # hidden, so that no scan enters it
            unpacked = Path(beside, folder.name)
            archives.unpack(folder_id, content, unpacked, digest)
            unpacked.rename(folder)  # fails if there is something again
    except (Damaged, OSError) as error:
        raise CannotPutBack(f"The files of version {digest[:SHORT]} cannot be written to {folder}: {error}") from error
    follow_folder(folder_id)


def follow_folder(folder_id: str) -> bool:
    """End the pin: what lies in the folder serves again. False when there was none."""
    deleted, _ = PinnedVersion.objects.filter(folder_id=folder_id).delete()
    return bool(deleted)


@transaction.atomic
def forget(folder_id: str) -> None:
    """Drop the versions, what is approved of them, and the pin of a folder that is gone for good."""
    follow_folder(folder_id)
    ApprovedVersion.objects.filter(folder_id=folder_id).delete()
    AgentVersion.objects.filter(folder_id=folder_id).delete()


def newest_kept(folder_id: str, *, among: Collection[str]) -> list[str]:
    """Of these digests those whose files are kept, the one that served last first."""
    kept = AgentVersion.objects.filter(folder_id=folder_id, digest__in=among).exclude(archive=None)
    return list(kept.order_by("-last_loaded_at", "-pk").values_list("digest", flat=True))


def stored_files(folder_id: str, digest: str) -> bytes | None:
    """The archive of a version, or None when it is not kept."""
    stored = AgentVersion.objects.filter(folder_id=folder_id, digest=digest).values_list("archive", flat=True).first()
    return None if stored is None else bytes(stored)


class CannotKeep(InvalidRequest):
    """The folder does not hold the version, or is too large."""


@transaction.atomic
def keep(folder_id: str, folder: Path, digest: str) -> None:
    """Keep the files of a version that has not loaded yet, unless they are kept. Raises CannotKeep."""
    if stored_files(folder_id, digest) is not None:
        return
    archive = archives.pack(folder_id, folder, digest)
    if archive is None:
        raise CannotKeep(f"{folder} does not hold version {digest[:SHORT]} (any more). Look at it again.")
    if archive.content is None:
        raise CannotKeep(f"{folder} is larger than {filesizeformat(archives.LARGEST)}. Move its data elsewhere.")
    row = _row(Loaded(folder_id, folder, digest), archive, clock.now())
    row.first_loaded_at = None
    AgentVersion.objects.bulk_create([row], ignore_conflicts=True)  # a worker may have loaded it meanwhile
    _prune(folder_id, AgentVersion.objects.filter(folder_id=folder_id).count())


# --- keeping what loaded ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Loaded:
    """A version that loaded from its folder in this process."""

    folder_id: str
    folder: Path
    digest: str


class Keeper:
    """Packs what loaded, some folders at a time, and stores what no worker has stored yet."""

    def __init__(self) -> None:
        self._done: dict[str, str] = {}  # folder id -> digest
        self._waiting: dict[str, Loaded] = {}
        self._unsettled: dict[str, Loaded] = {}  # being written to when they were packed
        self._retry_at = 0.0  # monotonic

    def look_at(self, loaded: Iterable[Loaded]) -> None:
        """All that load from their folders now. Those that were kept before cost nothing."""
        self._waiting = {one.folder_id: one for one in loaded if self._done.get(one.folder_id) != one.digest}
        self._unsettled.clear()

    def work(self) -> None:
        """Keep the next few that wait. Uses the database only when some do; raises its errors, and may be repeated."""
        if self._unsettled and monotonic() >= self._retry_at:
            self._waiting = self._unsettled | self._waiting
            self._unsettled = {}
        batch = list(islice(self._waiting.values(), _BATCH))
        if not batch:
            return
        stored = _stored(batch)
        new = [one for one in batch if one.digest not in stored[one.folder_id]]
        packed = {one: archives.pack(one.folder_id, one.folder, one.digest) for one in new}
        _store(batch, packed, stored)
        for one in batch:
            del self._waiting[one.folder_id]
            if packed.get(one, True):
                self._done[one.folder_id] = one.digest
            else:
                self._unsettled[one.folder_id] = one
                self._retry_at = monotonic() + _RETRY_SECONDS


def _stored(batch: list[Loaded]) -> dict[str, list[str]]:
    """The digests that are stored of each folder, the last one that it had at the end."""
    stored: dict[str, list[str]] = {one.folder_id: [] for one in batch}
    rows = AgentVersion.objects.filter(folder_id__in=stored).order_by("last_loaded_at", "pk")
    for folder_id, digest in rows.values_list("folder_id", "digest"):
        stored[folder_id].append(digest)
    return stored


@transaction.atomic
def _store(batch: list[Loaded], packed: Mapping[Loaded, Archive | None], stored: Mapping[str, list[str]]) -> None:
    now = clock.now()
    rows = [_row(one, archive, now) for one, archive in packed.items() if archive]
    AgentVersion.objects.bulk_create(rows, ignore_conflicts=True)  # another worker may have been first
    digests = [one.digest for one in batch]
    AgentVersion.objects.filter(digest__in=digests, first_loaded_at=None).update(first_loaded_at=now)
    for one in batch:
        known = stored[one.folder_id]
        if one in packed:
            _prune(one.folder_id, len(known))
        elif known[-1] != one.digest:  # the folder came back to it
            AgentVersion.objects.filter(folder_id=one.folder_id, digest=one.digest).update(last_loaded_at=now)


def _row(one: Loaded, archive: Archive, now: datetime) -> AgentVersion:
    return AgentVersion(
        folder_id=one.folder_id,
        digest=one.digest,
        archive=archive.content,
        size=archive.size,
        file_count=archive.file_count,
        first_loaded_at=now,
        last_loaded_at=now,
    )


def _prune(folder_id: str, known: int) -> None:
    """Leave the last KEPT versions, the one that an operator put back, and the one that was approved last."""
    if known < KEPT:
        return
    pinned = PinnedVersion.objects.filter(folder_id=folder_id).values("digest")
    approved = ApprovedVersion.objects.filter(folder_id=folder_id).order_by("-approved_at").values("digest")[:1]
    others = AgentVersion.objects.filter(folder_id=folder_id).exclude(digest__in=pinned).exclude(digest__in=approved)
    outdated = list(others.order_by("-last_loaded_at", "-pk").values_list("pk", flat=True)[KEPT:])
    AgentVersion.objects.filter(pk__in=outdated).delete()
