"""How many runs a process took with it that ended without a clean stop: killed, out of memory, a power cut.

Each server process keeps three numbers in a small file of the data folder that it has mapped into memory: runs begun,
ended, and written. They cost a few additions a run, and outlive the process because the operating system has them. Its
lock on the file tells whether it lives. Whoever starts next reads the files of the dead, says what is missing, and
removes them.
"""

import fcntl
import mmap
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog
from django.conf import settings

from apps.observability import error_ring

log = structlog.get_logger(__name__)

_FOLDER: Final = "runs-in-hand"
_ENDING: Final = ".counts"
_NUMBERS: Final = 3  # of 8 bytes
_SIZE: Final = _NUMBERS * 8
_BEGUN, _ENDED, _WRITTEN = range(_NUMBERS)


@dataclass(frozen=True, slots=True)
class Missing:
    """What a process left behind: runs that had ended and were not written yet, and those that were under way."""

    process: str
    ended: int
    under_way: int


class CrashCount:
    """The numbers of this process. Before `start`, and in a process that serves nobody, they go nowhere."""

    def __init__(self) -> None:
        self._numbers = _nowhere()
        self._kept: tuple[Path, mmap.mmap, int] | None = None

    def begun(self) -> None:
        self._numbers[_BEGUN] += 1

    def ended(self) -> None:
        self._numbers[_ENDED] += 1

    def written(self, count: int) -> None:
        """Called by the one thread that writes runs, the others by the event loop's: no two add to one number."""
        self._numbers[_WRITTEN] += count

    def start(self) -> list[Missing]:
        """Say what dead processes left behind, and begin to count. A folder that cannot be written to is logged."""
        try:
            folder = Path(settings.DATA_DIR) / _FOLDER
            folder.mkdir(exist_ok=True)
            missing = list(_of_the_dead(folder))
            self._open(folder / f"{os.getpid()}-{os.urandom(4).hex()}{_ENDING}")
        except OSError as error:
            log.warning("runs_not_counted_for_a_crash", reason=str(error))
            return []
        for one in missing:
            _tell(one)
        return missing

    def stop(self) -> None:
        """All is written, or said to be lost."""
        if self._kept is None:
            return
        path, mapped, file = self._kept
        path.unlink(missing_ok=True)
        numbers, self._numbers, self._kept = self._numbers, _nowhere(), None
        numbers.release()
        mapped.close()
        os.close(file)

    def _open(self, path: Path) -> None:
        """Under another name until it is locked: nobody may take it for a dead one's."""
        unlocked = path.with_suffix(".new")
        file = os.open(unlocked, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.write(file, bytes(_SIZE))  # not a hole: a full disk is heard of here, and not by a signal later
        unlocked.rename(path)
        mapped = mmap.mmap(file, _SIZE)
        self._numbers = memoryview(mapped).cast("Q")
        self._kept = (path, mapped, file)


def _nowhere() -> memoryview:
    return memoryview(bytearray(_SIZE)).cast("Q")


def _of_the_dead(folder: Path) -> Iterator[Missing]:
    for path in sorted(folder.glob(f"*{_ENDING}")):
        with suppress(FileNotFoundError, BlockingIOError):  # another one was faster; or the process lives
            if missing := _take(path):
                yield missing


def _take(path: Path) -> Missing | None:
    """Read and remove the file of a dead process. Raises BlockingIOError while its process lives."""
    file = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        data = os.read(file, _SIZE)
        path.unlink()
    finally:
        os.close(file)
    if len(data) < _SIZE:  # it died before it had counted anything
        return None
    begun, ended, written = memoryview(data).cast("Q")
    missing = Missing(path.name.partition("-")[0], max(0, ended - written), max(0, begun - ended))
    return missing if missing.ended or missing.under_way else None


def _tell(missing: Missing) -> None:
    message = (
        f"A server process ended without a clean stop. Runs that had ended and are missing from the record: "
        f"{missing.ended}. Runs that were cut off: {missing.under_way}."
    )
    log.error("runs_lost_in_crash", pid=missing.process, ended=missing.ended, under_way=missing.under_way)
    error_ring.note("record", code="runs_lost_in_crash", message=message, subject=f"process {missing.process}")


crash_count: Final = CrashCount()
