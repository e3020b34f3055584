"""Former versions on the disk, in the place of the folders whose version an operator pinned.

Every process maps its scans: the folder of a pinned agent is replaced by one with the archived files, brought back once
under GATEWAY_DATA_DIR. So everything behind the scan loads, reloads and retires a former version like any other.
"""

import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, time

import structlog
from django.conf import settings
from django.db import Error

from apps.catalog import archives, scan, versions
from apps.catalog.archives import Damaged
from apps.catalog.diagnostics import Problem, problem
from apps.catalog.models import SHORT

_RETRY_SECONDS = 10.0  # until a version that could not be brought back is tried again
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
class _Failure:
    digest: str
    problem: Problem
    retry_at: float  # monotonic


class PinnedFolders:
    """What this process has put in the place of live folders. Not thread-safe: one caller at a time."""

    def __init__(self) -> None:
        self._pinned: dict[str, Pinned] = {}
        self._failures: dict[str, _Failure] = {}
        self._lease_ends = 0.0  # monotonic

    def in_place(self, seen: scan.Scan) -> scan.Scan:
        """The scan with the pinned versions' folders in it, and with a problem for each that says so.

        Without a pin it costs nothing; with one, a look at agent.py. The database is asked for new pins only.
        """
        pins = versions.PINS.current()
        if not pins and not self._pinned:
            return seen
        live = {folder.agent_id: folder for folder in seen.folders}
        wanted = {folder_id: digest for folder_id, digest in pins.items() if folder_id in live}
        self._pinned = {folder_id: one for folder_id, one in self._pinned.items() if folder_id in wanted}
        self._failures = {folder_id: one for folder_id, one in self._failures.items() if folder_id in wanted}
        problems = [(folder_id, self._pin(live[folder_id], digest)) for folder_id, digest in wanted.items()]
        in_place = live | {folder_id: one.folder for folder_id, one in self._pinned.items()}
        return scan.Scan(tuple(in_place.values()), (*seen.problems, *problems))

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

    def _pin(self, live: scan.Folder, digest: str) -> Problem:
        """Bring the version back unless it is there. When that fails, what serves now goes on."""
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
        live_digest = before.live_digest if before and before.live == live else scan.digest(live)
        pinned = self._pinned[live.agent_id] = Pinned(digest, folder, live, live_digest)
        return _told(pinned)

    def _recent_failure(self, folder_id: str, digest: str) -> Problem | None:
        failure = self._failures.get(folder_id)
        is_recent = failure and failure.digest == digest and monotonic() < failure.retry_at
        return failure.problem if failure and is_recent else None

    def _fail(self, live: scan.Folder, digest: str, error: Exception) -> Problem:
        log.error("version_not_put_back", folder_id=live.agent_id, version=digest[:SHORT], error=str(error))
        failed = problem(
            "pin_failed",
            f"Version {digest[:SHORT]} could not be put back, so what served before goes on. {error}",
            f"{_REMEDY}, or put another version back.",
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
