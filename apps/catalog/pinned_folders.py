"""Kept versions on the disk, in the place of folders: of those whose version an operator pinned, and of all while the
modules are locked.

Every process maps its scans: such a folder is replaced by one with the archived files, brought back once under
GATEWAY_DATA_DIR. So everything behind the scan loads, reloads and retires a kept version like any other. A lock loads
approved content from such copies too when the folder holds the same: nothing that changes there, however late, is run.
"""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic, time

import structlog
from django.conf import settings
from django.db import Error

from apps.catalog import archives, modules, scan, versions
from apps.catalog.archives import Damaged
from apps.catalog.diagnostics import Problem, problem
from apps.catalog.models import SHORT
from apps.catalog.modules import Approved

_RETRY_SECONDS = 10.0  # until a version that could not be brought back is tried again
_KNOWN_SECONDS = 5.0  # until the copies are looked at again while the modules are locked: there is one of each folder
_LEASE_SECONDS = 60.0  # between two signs of a process that it uses its folders
_REMEDY = "Open the agent in the admin and press “Follow the folder again”"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Pinned:
    """A folder whose place another one takes."""

    digest: str
    folder: scan.Folder  # what loads: the archived files
    live: scan.Folder  # what lies in the discovery folder
    live_digest: str

    @property
    def is_there(self) -> bool:
        return (self.folder.path / scan.AGENT_FILE).is_file()


@dataclass(frozen=True, slots=True)
class _Look:
    """What was found, and from what."""

    seen: scan.Scan
    pins: Mapping[str, str]
    approved: Approved | None
    in_place: scan.Scan
    until: float  # monotonic

    def holds_for(self, seen: scan.Scan, pins: Mapping[str, str], approved: Approved | None) -> bool:
        is_same = self.seen is seen and self.pins is pins and self.approved is approved
        return is_same and monotonic() < self.until


@dataclass(frozen=True, slots=True)
class _Failure:
    digest: str
    problem: Problem
    retry_at: float  # monotonic


class PinnedFolders:
    """What this process has put in the place of live folders. Not thread-safe: one caller at a time."""

    def __init__(self) -> None:
        self._pinned: dict[str, Pinned] = {}
        self._failures: dict[str, _Failure] = {}
        self._live_digests: dict[str, tuple[scan.Folder, str]] = {}
        self._held_back: dict[str, str] = {}  # folder id -> digest that was logged as not approved
        self._lease_ends = 0.0  # monotonic
        self._last: _Look | None = None

    def in_place(self, seen: scan.Scan) -> scan.Scan:
        """The scan with the kept versions' folders in it, and with a problem for each that is not what lies there.

        Without a pin and a lock it costs nothing; with a pin, a look at its agent.py; with a lock one at each every few
        seconds. The database is asked when something is new. While the modules are locked, a folder of which nothing
        approved is kept is withheld.
        """
        pins, approved = versions.PINS.current(), modules.POLICY.current().approved
        if not pins and approved is None and not self._pinned:
            return seen
        if not (self._last and self._last.holds_for(seen, pins, approved)):
            in_place = self._look(seen, pins, approved)
            until = 0.0 if approved is None or self._failures else monotonic() + _KNOWN_SECONDS
            self._last = _Look(seen, pins, approved, in_place, until)
        return self._last.in_place

    def _look(self, seen: scan.Scan, pins: Mapping[str, str], approved: Approved | None) -> scan.Scan:
        replaced = {one.agent_id for one in seen.folders if approved is not None or one.agent_id in pins}
        for known in (self._pinned, self._failures, self._live_digests, self._held_back):
            for folder_id in known.keys() - replaced:
                known.pop(folder_id)
        folders, problems = [], list(seen.problems)
        for live in seen.folders:
            folder, told = live, None
            if approved is not None:
                folder, told = self._approved(live, pins.get(live.agent_id), approved.get(live.agent_id, frozenset()))
            elif pin := pins.get(live.agent_id):
                folder, told = self._put_back(live, pin)
            folders.append(folder)
            problems += [(live.agent_id, told)] if told else []
        return scan.Scan(tuple(folders), tuple(problems))

    def replaced(self, path: Path) -> Pinned | None:
        """The pin whose archived files lie at `path`."""
        return next((one for one in self._pinned.values() if one.folder.path == path), None)

    def tidy(self) -> None:
        """Say that this process uses its folders, and remove what no process has used for longer than a run may last.

        A run that began on a former version still reads its files after the pin has ended.
        """
        if monotonic() < self._lease_ends:
            return
        self._lease_ends = monotonic() + _LEASE_SECONDS
        unused_since = time() - settings.GATEWAY_RUN_TIMEOUT - 2 * _LEASE_SECONDS
        with suppress(FileNotFoundError):  # another process is removing it: the rest is done the next time
            for one in self._pinned.values():
                os.utime(one.folder.path.parent)
            for version in _root().glob("*/*/*"):
                if version.stat().st_mtime < unused_since:
                    shutil.rmtree(version)

    def _put_back(self, live: scan.Folder, pin: str) -> tuple[scan.Folder, Problem]:
        """When it cannot be brought back, what serves now goes on."""
        failure = self._bring(live, pin)
        pinned = self._pinned.get(live.agent_id)
        return (pinned.folder if pinned else live), failure or _told(self._pinned[live.agent_id])

    def _approved(
        self, live: scan.Folder, pin: str | None, approved: frozenset[str]
    ) -> tuple[scan.Folder, Problem | None]:
        """The best version that is approved and kept: what an operator put back, else what lies in the folder, else
        what served last."""
        wished, failure = pin or self._live_digest(live), None
        for digest in self._candidates(live.agent_id, wished, approved):
            if problem := self._bring(live, digest):
                failure = failure or problem
                continue
            pinned = self._pinned[live.agent_id]
            if digest == wished:
                return pinned.folder, _told(pinned) if pin else None
            self._log_held_back(live, wished, serves=digest)
            return pinned.folder, failure or modules.not_approved(live, wished, serves=digest)
        self._pinned.pop(live.agent_id, None)
        return replace(live, withheld=failure or modules.not_approved(live, wished)), None

    def _log_held_back(self, live: scan.Folder, wished: str, *, serves: str) -> None:
        if self._held_back.get(live.agent_id) != wished:
            self._held_back[live.agent_id] = wished
            log.error("agent_not_approved", agent=live.agent_id, version=wished[:SHORT], serves=serves[:SHORT])

    def _candidates(self, folder_id: str, wished: str, approved: frozenset[str]) -> Iterator[str]:
        if wished in approved:
            yield wished
        serving = self._pinned.get(folder_id)
        if serving and serving.digest in approved - {wished}:
            yield serving.digest
        if approved - {wished}:
            with suppress(Error):  # the database is away: what it would add cannot be brought back either
                yield from versions.newest_kept(folder_id, among=approved - {wished})

    def _live_digest(self, live: scan.Folder) -> str:
        known = self._live_digests.get(live.agent_id)
        if known is None or known[0] != live:
            known = self._live_digests[live.agent_id] = (live, scan.digest(live))
        return known[1]

    def _bring(self, live: scan.Folder, digest: str) -> Problem | None:
        """Put the version in the folder's place; why that fails, when it does, and then nothing is changed."""
        before = self._pinned.get(live.agent_id)
        if before and before.digest == digest and before.is_there:
            folder = before.folder
        elif failure := self._recent_failure(live.agent_id, digest):
            return failure
        else:
            try:
                folder = _bring_back(live, digest)
            except (Damaged, Error) as error:
                return self._fail(live, digest, error)
        self._pinned[live.agent_id] = Pinned(digest, folder, live, self._live_digest(live))
        return None

    def _recent_failure(self, folder_id: str, digest: str) -> Problem | None:
        failure = self._failures.get(folder_id)
        is_recent = failure and failure.digest == digest and monotonic() < failure.retry_at
        return failure.problem if failure and is_recent else None

    def _fail(self, live: scan.Folder, digest: str, error: Exception) -> Problem:
        log.error("version_not_put_back", folder_id=live.agent_id, version=digest[:SHORT], error=str(error))
        failed = problem(
            "pin_failed",
            f"Version {digest[:SHORT]} could not be brought back. {error}",
            f"{_REMEDY}, or put another version back; while the modules are locked, approve it again.",
            live.path,
        )
        self._failures[live.agent_id] = _Failure(digest, failed, monotonic() + _RETRY_SECONDS)
        return failed


pinned_folders = PinnedFolders()


def _root() -> Path:
    return Path(settings.DATA_DIR) / "versions"


def _bring_back(live: scan.Folder, digest: str) -> scan.Folder:
    """Raises Damaged, and the database's errors."""
    stored = versions.stored_files(live.agent_id, digest)
    if stored is None:
        raise Damaged("It is not kept any more.")
    # Called like the live folder: an agent answers to its folder's name.
    target = _root().joinpath(*live.agent_id.split("/"), digest, live.path.name)
    folder = archives.unpack(live.agent_id, stored, target, digest)
    archives.share_databases(live.path, target, [name for name, *_ in folder.fingerprint])
    log.info("version_put_back", folder_id=live.agent_id, version=digest[:SHORT])
    return folder


def _told(pinned: Pinned) -> Problem:
    version, in_folder = pinned.digest[:SHORT], pinned.live_digest[:SHORT]
    differs = f"what lies in the folder, version {in_folder}, does not" if version != in_folder else "edits do not"
    return problem(
        "pinned_version",
        f"An operator put version {version} back: it serves, and {differs}.",
        f"{_REMEDY} to end that.",
        pinned.live.path,
    )
