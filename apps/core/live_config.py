"""Configuration without a database on the hot path.

Each app registers a section: a name, a function that reads it from the database into an immutable value, and the
models that it reads. A snapshot holds the value of every section at one version. A poller thread re-reads the version
row every half second and swaps in a whole new snapshot when it moved, with those sections read again whose models
changed, so that an edit is live in every worker process within a second and a request only ever reads memory.
"""

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from types import MappingProxyType
from typing import Any, Generic, TypeVar, cast

import structlog
from django.conf import settings
from django.db import DatabaseError, connection

from apps.core.models import ConfigModel, ConfigVersion

POLL_SECONDS = 0.4

T = TypeVar("T")
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """`versions` are those of the tables that a section was read from."""

    version: int
    sections: Mapping[str, Any]
    versions: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class _Loader:
    load: Callable[[], Any]
    tables: tuple[str, ...]
    fails_closed: bool

    def versions(self, of_tables: Mapping[str, int]) -> tuple[int, ...]:
        return tuple(of_tables.get(table, 0) for table in self.tables)


@dataclass(slots=True)
class _State:
    snapshot: Snapshot | None = None
    checked_at: float = 0.0  # monotonic seconds of the last successful look at the version row
    counts_until: float = 0.0  # monotonic seconds at which that look is too old to go by
    is_polled: bool = False
    loaders: dict[str, _Loader] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)


_state = _State()


@dataclass(frozen=True, slots=True)
class Section(Generic[T]):
    """One app's part of the configuration."""

    name: str

    def current(self) -> T:
        """The value in force. Reads memory only, once the process has loaded its first snapshot."""
        value: T = (_state.snapshot or refresh()).sections[self.name]  # on every request a dozen times
        return value

    def loaded(self) -> T | None:
        """The value in force; None in a process that has loaded no configuration, such as a command that runs where
        there is no database. Never asks the database."""
        snapshot = _state.snapshot
        return cast("T", snapshot.sections[self.name]) if snapshot else None


def section(
    name: str, load: Callable[[], T], *, reads: Iterable[type[ConfigModel]], fails_closed: bool = False
) -> Section[T]:
    """Declare a section. `load` runs in a thread that may use the database and returns an immutable value.

    It is called again when a row of a model that it `reads` has changed. Rows that a deletion elsewhere takes along, or
    whose foreign key it empties, move only the deleted row's table: name that model too.

    A `load` that fails (a row that nobody foresaw) leaves the section as it was, and the others go on; with
    `fails_closed` it holds up the whole configuration instead, for what must not go on by rules of yesterday.
    """
    tables = tuple(model._meta.db_table for model in reads)  # noqa: SLF001
    _state.loaders[name] = _Loader(load, tables, fails_closed)
    forget()  # a snapshot from before this section does not have it
    return Section(name)


def current() -> Snapshot:
    """The snapshot in force; loads it first in a process that has no poller (commands, tests, the shell)."""
    return _state.snapshot or refresh()


def is_loaded() -> bool:
    """Whether this process has a snapshot, so that nobody who asks for one has to wait for the database."""
    return _state.snapshot is not None


def load_if_possible() -> None:
    """For a command that may run where there is no gateway: load the first snapshot unless there is no database.

    A database file that does not exist is not made by asking.
    """
    try:
        if _state.snapshot is None and has_database():
            refresh()
    except DatabaseError:
        log.debug("configuration_not_loaded", exc_info=True)


def has_database() -> bool:
    is_file = connection.vendor == "sqlite" and not connection.is_in_memory_db()  # type: ignore[attr-defined]  # sqlite's
    return not is_file or Path(connection.settings_dict["NAME"]).is_file()


def seconds_since_check() -> float:
    """How old the knowledge is that the snapshot is current; infinite before the first look."""
    return monotonic() - _state.checked_at if _state.checked_at else float("inf")


def is_stale() -> bool:
    """Whether this process should have heard of changes and has not for GATEWAY_ACCESS_MAX_AGE seconds."""
    return _state.is_polled and monotonic() > _state.counts_until


def refresh() -> Snapshot:
    """Look at the version row and load a new snapshot if it moved. Uses the database; raises DatabaseError."""
    with _state.lock:
        snapshot = _state.snapshot
        # Asked again after loading: a change in between may have torn the sections apart.
        while snapshot is None or snapshot.version != ConfigVersion.current():
            snapshot = _next(snapshot)
        _state.snapshot = snapshot
        _state.checked_at = monotonic()
        _state.counts_until = _state.checked_at + settings.GATEWAY_ACCESS_MAX_AGE  # here, because requests ask often
    return snapshot


def _next(before: Snapshot | None) -> Snapshot:
    version, of_tables = ConfigVersion.current(), ConfigVersion.of_tables()
    versions = {name: loader.versions(of_tables) for name, loader in _state.loaders.items()}
    sections = {
        name: before.sections[name] if before and before.versions.get(name) == versions[name] else _load(name, before)
        for name in _state.loaders
    }
    return Snapshot(version, MappingProxyType(sections), MappingProxyType(versions))


def _load(name: str, before: Snapshot | None) -> Any:
    loader = _state.loaders[name]
    try:
        return loader.load()
    except DatabaseError:
        raise
    except Exception as error:
        if loader.fails_closed or before is None or name not in before.sections:
            raise
        log.error("configuration_section_unreadable", section=name, exc_info=error)
        return before.sections[name]


def forget() -> None:
    """Drop the snapshot, so that the next reader loads a new one."""
    _state.snapshot = None
    _state.checked_at = _state.counts_until = 0.0


class Poller:
    """The thread of a server process that keeps its snapshot current."""

    def __init__(self, interval: float = POLL_SECONDS) -> None:
        self._interval = interval
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._poll, name="live-config", daemon=True)

    def start(self) -> None:
        """Loads the first snapshot before it returns, so that no request is served without one."""
        refresh()
        self._thread.start()
        _state.is_polled = True

    def stop(self) -> None:
        _state.is_polled = False
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    def _poll(self) -> None:
        failing = False
        while not self._stopping.wait(self._interval):
            try:
                before = _state.snapshot
                after = refresh()
                if after is not before:
                    log.info("configuration_changed", version=after.version)
                failing = False
            except Exception as error:  # whatever it is, the next look must still happen
                if not failing:
                    log.error(
                        "configuration_unreadable", error=str(error), exc_info=not isinstance(error, DatabaseError)
                    )
                failing = True
                connection.close()
        connection.close()
