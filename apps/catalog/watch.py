"""Where discovery has to look again, and when: what the operating system names, or everything every half second.

The watch costs nothing while nothing changes, and names the few folders that did. What it cannot name is looked at
without it: files behind symbolic links every half second, everything every half minute. When it cannot work at all,
GATEWAY_AGENT_AUTO_RELOAD's look at everything takes its place, and says why.
"""

import os
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any, Literal

import structlog
from django.conf import settings

from apps.catalog import scan

TICK_SECONDS = 0.5  # between two looks when nothing is named
NET_SECONDS = 30.0  # between two looks at everything while the watch works
_AFTER_BURST_SECONDS = 2.0

# The operating system's queue holds 16,384 events, and loses the rest without a word to us.
_BURST = 4096
_STEP_MS = 25  # events are handed over when none has come for so long...
_DEBOUNCE_MS = 200  # ...or after this
_ATTEMPTS = 5  # to begin, while folders vanish under our hands

log = structlog.get_logger(__name__)


class CannotWatch(Exception):
    """The message is the reason and the remedy, in sentences."""


@dataclass(frozen=True, slots=True)
class Mode:
    """How a process follows its discovery folders. `reason` says why it does not watch, and what helps."""

    name: Literal["watch", "scan", "off"]
    reason: str = ""


class Changes:
    """Tells a discovery thread where to look again. Made, asked and closed by that thread; the rest is for all."""

    def __init__(self, roots: Sequence[Path], linked: Callable[[], Iterable[Path]]) -> None:
        """The watch has begun when it returns, so that no change after it is lost. `linked` as in scan.Scanner."""
        self._roots, self._linked = roots, linked
        self._woken = threading.Event()
        self._watch: Watch | None = None
        self._looked_at = self._net_due = monotonic()
        self._burst_over = float("inf")
        if settings.GATEWAY_AGENT_WATCH:
            self._begin()
        else:
            self._mode = _without_watch("GATEWAY_AGENT_WATCH is false.")

    @property
    def mode(self) -> Mode:
        return self._mode

    def wait(self) -> None:
        """Until something is named or the next look is due."""
        self._woken.wait(TICK_SECONDS)
        self._woken.clear()

    def wake(self) -> None:
        self._woken.set()

    def expect_more(self) -> None:
        """Something is changing right now: the watch is asked again at once."""
        if self._watch:
            self._woken.set()

    def take(self) -> set[Path] | None:
        """What may have changed since the last call; None when it may be anything."""
        if self._watch is None:
            return None if self._mode.name == "scan" else set()
        if self._watch.failure:
            self.give_up(self._watch.failure)
            return None
        return self._named(self._watch)

    def is_net_due(self) -> bool:
        """Whether it is time to look everywhere for what the watch did not name. True once every half minute."""
        due = self._watch is not None and monotonic() >= self._net_due
        if due:
            self._net_due = monotonic() + NET_SECONDS
        return due

    def give_up(self, reason: str) -> None:
        """Go on without the watch."""
        self.close()
        self._mode = _without_watch(reason)
        log.warning("agent_watch_unavailable", reason=reason, mode=self._mode.name)

    def close(self) -> None:
        if self._watch:
            self._watch.close()
            self._watch = None

    def _named(self, watch: "Watch") -> set[Path] | None:
        named = watch.take()
        if watch.is_outdated:
            self.close()
            self._begin()
            return None
        if len(named) > _BURST:
            self._burst_over = monotonic() + _AFTER_BURST_SECONDS
            return None
        if monotonic() >= self._burst_over:
            self._burst_over = float("inf")
            return None
        if monotonic() >= self._looked_at + TICK_SECONDS:
            self._looked_at = monotonic()
            named |= set(self._linked())
        return named

    def _begin(self) -> None:
        self._net_due = monotonic() + NET_SECONDS
        try:
            self._watch = Watch(self._roots, self._woken)
            self._mode = Mode("watch")
        except CannotWatch as error:
            self.give_up(str(error))


def _without_watch(reason: str) -> Mode:
    if settings.GATEWAY_AGENT_AUTO_RELOAD:
        return Mode("scan", reason)
    return Mode("off", f"{reason} GATEWAY_AGENT_AUTO_RELOAD is false.")


class Watch:
    """Collects in a thread what changes below some folders. `woken` is set when there is something to take."""

    def __init__(self, roots: Iterable[Path], woken: threading.Event) -> None:
        """It has begun when it returns. Folders that do not exist are waited for. Raises CannotWatch."""
        self._state = {root: _identity(root) for root in roots}
        self._roots = [str(root) for root, identity in self._state.items() if identity]
        self._events = _open(self._roots)
        self._woken, self._closing, self._lock = woken, threading.Event(), threading.Lock()
        self._named: set[str] = set()
        self.failure = ""  # the reason and the remedy, once it does not work any more
        self._thread = threading.Thread(target=self._collect, name="agent-watch", daemon=True)
        self._thread.start()

    @property
    def is_outdated(self) -> bool:
        """Whether a watched folder was replaced by another one, or one has appeared."""
        return any(identity != _identity(root) for root, identity in self._state.items())

    def take(self) -> set[Path]:
        with self._lock:
            named, self._named = self._named, set()
        return {Path(path) for path in named if not self._never_counts(path)}

    def close(self) -> None:
        self._closing.set()
        self._thread.join(timeout=5)

    def _collect(self) -> None:
        try:
            while not self._closing.is_set():
                events = self._events.watch(_DEBOUNCE_MS, _STEP_MS, 0, self._closing)
                if isinstance(events, set):
                    self._take_in({path for _, path in events})
        except CannotWatch as error:
            self.failure = str(error)
        except Exception as error:  # noqa: BLE001  # its own exception class is private, and anything ends the watch
            self.failure = _reason(error)
        finally:
            self._events.close()
            self._woken.set()

    def _take_in(self, paths: set[str]) -> None:
        if any(map(os.path.isdir, paths)):
            self._refuse_full()
        with self._lock:
            self._named |= paths
        self._woken.set()

    def _refuse_full(self) -> None:
        """New folders are watched by the library, which keeps quiet when the operating system takes no more."""
        if self._roots:
            with suppress(FileNotFoundError):  # is_outdated sees to it
                _watch_paths(self._roots[:1], is_deep=False).close()

    def _never_counts(self, path: str) -> bool:
        inside = next((path[len(root) + 1 :] for root in self._roots if path.startswith(f"{root}/")), "")
        return bool(inside) and scan.never_counts(inside.split("/"))


def _identity(root: Path) -> tuple[int, int] | None:
    try:
        status = root.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _open(roots: list[str]) -> Any:
    for _ in range(_ATTEMPTS):
        with suppress(FileNotFoundError):  # a folder vanished while its parent was read
            return _watch_paths(roots, is_deep=True)
    raise CannotWatch("The discovery folders change faster than a watch of them can begin. Restart the gateway.")


def _watch_paths(paths: list[str], *, is_deep: bool) -> Any:
    try:
        from watchfiles._rust_notify import RustNotify  # documented as "Rust backend direct usage"
    except ImportError as error:
        raise CannotWatch(f"watchfiles cannot be imported ({error}). Install it: `pip install watchfiles`.") from error
    try:
        return RustNotify(paths, False, False, 0, is_deep, False)
    except FileNotFoundError:
        raise
    except Exception as error:  # its own exception class is private; without a watch there is the scan
        raise CannotWatch(_reason(error)) from error


def _reason(error: Exception) -> str:
    text = str(error)
    if "watch limit" in text:
        return f"The limit of inotify watches is reached ({text}). Raise fs.inotify.max_user_watches, and restart."
    if "os error 24" in text:
        return f"The limit of inotify instances is reached ({text}). Raise fs.inotify.max_user_instances, and restart."
    return f"The operating system does not watch the discovery folders ({text}). Correct that, and restart."
