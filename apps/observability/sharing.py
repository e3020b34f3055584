"""Metrics of several workers: each writes its own into a folder, and whoever is asked adds them up (decision 25).

What a worker had counted stays when it has died: the parent process keeps it for the dead. Without the folder, such as
on a full disk, a worker goes on and is seen as it last wrote.
"""

import contextlib
import os
import re
import shutil
import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from time import monotonic, perf_counter, time_ns
from typing import Final, NamedTuple
from uuid import uuid4

import msgspec
import structlog

from apps.core.periodic import Periodic
from apps.observability.family import Family, Rules, added_up, exact

log = structlog.get_logger(__name__)

# Set by the parent for its workers.
VARIABLE: Final = "AGENT_GATEWAY_WORKER_METRICS"
ORIGIN: Final = "AGENT_GATEWAY_ORIGIN"
_FORMER: Final = "former"  # a file name; those of workers begin with their process id
_NAME: Final = re.compile(r"former|[0-9]+-\w+")
_BEING_WRITTEN: Final = ".new"
_EVERY: Final = 1.0  # seconds: as much as is lost of a worker that is killed
_SHARE: Final = 20  # times as long as it takes to write, is not written: 5 % of a core at most
_ATTEMPTS: Final = 10
_NAMES_KEPT: Final = 1000


class Written(msgspec.Struct, frozen=True, array_like=True):
    """The content of a file. `includes` are the names of others that it stands for."""

    families: list[Family]
    includes: list[str] = []


class Origin(NamedTuple):
    """Of what is counted: by which gateway, and since when."""

    instance: str
    began_ns: int

    @classmethod
    def new(cls) -> "Origin":
        return cls(str(uuid4()), time_ns())

    @classmethod
    def of(cls, text: str) -> "Origin":
        instance, began_ns = text.split()
        return cls(instance, int(began_ns))

    def __str__(self) -> str:
        return f"{self.instance} {self.began_ns}"


class CannotRead(Exception):
    """Others rewrote the folder faster than it could be read, or it is gone."""


class Folder:
    """Of one gateway's workers."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def made(cls, parent: Path) -> "Folder":
        """An empty one for this process's workers; those of gateways that are gone are removed. Raises OSError."""
        parent.mkdir(mode=0o700, exist_ok=True)
        for other in parent.iterdir():
            if other.name == str(os.getpid()) or not _runs(other.name):
                shutil.rmtree(other)
        path = parent / str(os.getpid())
        path.mkdir(mode=0o700)
        return cls(path)

    def first(self) -> str:
        """The worker whose name comes first; empty without any. Raises OSError."""
        return min((name for name in self._names() if name != _FORMER), default="")

    def write(self, name: str, written: Written) -> None:
        """Whole or not at all. Raises OSError."""
        beside = self.path / f"{name}{_BEING_WRITTEN}"
        try:
            beside.write_bytes(msgspec.msgpack.encode(written))
            beside.replace(self.path / name)
        except OSError:
            with contextlib.suppress(OSError):
                beside.unlink(missing_ok=True)
            raise

    def read(self) -> list[list[Family]]:
        """Everyone's, each counted once. Raises CannotRead."""
        for _ in range(_ATTEMPTS):
            try:
                # The file of the dead last: it names those that it stands for, which may have been read before.
                found = {name: self._file(name) for name in sorted(self._names(), key=lambda name: name == _FORMER)}
            except FileNotFoundError:  # of a dead worker, whose metrics are in the other file now
                continue
            except (OSError, msgspec.MsgspecError) as error:
                raise CannotRead(str(error)) from error
            included = found[_FORMER].includes if _FORMER in found else ()
            return [one.families for name, one in sorted(found.items()) if name not in included]
        raise CannotRead(f"{self.path} changes all the time, or is gone.")

    def keep_of_the_dead(self, living: Collection[int]) -> None:
        """What workers had counted which are no longer among these process ids. By the parent alone; raises OSError."""
        names = self._names()
        dead = [name for name in names if name != _FORMER and int(name.partition("-")[0]) not in living]
        if not dead:
            return
        former = self._file(_FORMER) if _FORMER in names else Written([])
        new = [name for name in dead if name not in former.includes]  # else it could not be removed the last time
        parts = [former.families, *(self._file(name).families for name in new)]
        kept = [[family for family in part if family.outlives_its_worker] for part in parts]
        self.write(_FORMER, Written(added_up(kept, Rules()), [*former.includes, *new][-_NAMES_KEPT:]))
        for name in dead:
            (self.path / name).unlink(missing_ok=True)

    def _names(self) -> list[str]:
        return [name for name in os.listdir(self.path) if _NAME.fullmatch(name)]  # noqa: PTH208  # twice a second

    def _file(self, name: str) -> Written:
        return _decode((self.path / name).read_bytes())


_decode = msgspec.msgpack.Decoder(Written).decode


def _runs(process: str) -> bool:
    try:
        os.kill(int(process), 0)
    except (ValueError, ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


# --- the parent ------------------------------------------------------------------------------------------------------


class Parent:
    """Of the workers: makes the folder before they start, and keeps what the dead had counted."""

    def __init__(self, parent_folder: Path) -> None:
        self._folder: Folder | None = None
        self._is_failing = False
        os.environ.pop(VARIABLE, None)
        try:
            self._folder = Folder.made(parent_folder)
        except OSError as error:
            _tell(error)
            return
        os.environ[VARIABLE] = str(self._folder.path)
        os.environ[ORIGIN] = str(Origin.new())

    def keep_of_the_dead(self, living: Iterable[int | None]) -> None:
        if self._folder is None:
            return
        try:
            self._folder.keep_of_the_dead({pid for pid in living if pid is not None})
            self._is_failing = False
        except (OSError, msgspec.MsgspecError) as error:  # it is tried again in a moment, and read until then
            if not self._is_failing:
                _tell(error)
            self._is_failing = True

    def close(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder.path, ignore_errors=True)


# --- a worker --------------------------------------------------------------------------------------------------------


class Sharing:
    """Of this process. Does nothing in one that has no parent, such as a single server or a command."""

    def __init__(self, collect: Callable[[], Sequence[Family]]) -> None:
        self._collect = collect
        self._folder: Folder | None = None
        self._name = ""
        self._lock = threading.Lock()
        self._rests_until = 0.0
        self._is_failing = False
        self.origin = Origin.new()  # of what `everyones` tells
        self._periodic = Periodic("share-metrics", self._write_in_turn, seconds=_EVERY)

    def start(self) -> None:
        if path := os.environ.get(VARIABLE):
            self._folder = Folder(Path(path))
            self._name = f"{os.getpid()}-{uuid4().hex[:12]}"
            if told := os.environ.get(ORIGIN):
                self.origin = Origin.of(told)  # of one sum, whoever tells it
            self._write()
            self._periodic.start()

    def stop(self) -> None:
        """Leaves behind what this process has counted to its end."""
        if self._folder is not None:
            self._periodic.stop()
            self._write()
            self._folder = None

    def is_first(self) -> bool:
        """Whether it is this process that sends the sums of all: while one starts or ends, it may be two or none."""
        if self._folder is None:
            return True
        try:
            return self._folder.first() == self._name
        except OSError as error:
            self._fail(error)
            return True

    def everyones(self) -> list[list[Family]]:
        """The families of all workers; this one's alone where there are no others, or they cannot be read.

        All are read from the folder, this one's too: two workers that are asked in turn never tell of less.
        """
        if self._folder is None:
            return [list(self._collect())]
        self._write()
        try:
            return self._folder.read() or [list(self._collect())]
        except CannotRead as error:
            self._fail(error)
            return [list(self._collect())]

    def _write_in_turn(self) -> None:
        if monotonic() >= self._rests_until:
            self._write()

    def _write(self) -> None:
        assert self._folder is not None
        with self._lock:
            began = perf_counter()
            try:
                self._folder.write(self._name, Written([exact(family) for family in self._collect()]))
                self._is_failing = False
            except (OSError, ValueError) as error:  # a name that is no text is no reason not to serve
                self._fail(error)
            self._rests_until = monotonic() + _SHARE * (perf_counter() - began)

    def _fail(self, error: Exception) -> None:
        if not self._is_failing:
            _tell(error)
        self._is_failing = True


def _tell(error: Exception) -> None:
    log.error(
        "metrics_not_shared",
        error=str(error),
        remedy="Make room in the data folder and let the gateway's user write there: until then the metrics of the "
        "workers are not added up, or stay as they were written last.",
    )
