"""What the watch names, what it cannot name, and what takes its place when it does not work."""

import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import watchfiles._rust_notify
from django.conf import LazySettings
from structlog.testing import capture_logs

from apps.catalog import watch
from tests.catalog.conftest import DiscoveryFolder, until
from tests.harness.processes import ROOT

Start = Callable[..., watch.Changes]


@pytest.fixture
def start(folder: DiscoveryFolder, settings: LazySettings) -> Iterator[Start]:
    """`start()` watches the discovery folder; further roots may be given."""
    settings.GATEWAY_AGENT_WATCH = settings.GATEWAY_AGENT_AUTO_RELOAD = True
    started: list[watch.Changes] = []

    def start(*roots: Path, linked: tuple[Path, ...] = ()) -> watch.Changes:
        started.append(watch.Changes(roots or [folder.path], lambda: linked))
        return started[-1]

    yield start
    for one in started:
        one.close()


def wait_for(changes: watch.Changes, *paths: Path) -> set[Path]:
    """Everything that is named until these paths are."""
    named: set[Path] = set()

    def has_come() -> bool:
        taken = changes.take()
        assert taken is not None
        named.update(taken)
        return named.issuperset(paths)

    until(has_come)
    return named


def wait_until_everywhere(changes: watch.Changes) -> None:
    until(lambda: changes.take() is None)


# --- what is named ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", ["agent.py", "tools/helper.py", "requirements.txt", "data/prices.csv", ".env"])
def test_any_file_of_a_folder_is_named(folder: DiscoveryFolder, start: Start, file: str) -> None:
    path = folder.write_agent("labs/Weather", "W") / file
    path.parent.mkdir(exist_ok=True)
    path.write_text("one")
    folder.write_agent("Planner", "P")
    changes = start()

    path.write_text("two")

    assert wait_for(changes, path) == {path}


def test_what_makes_no_new_version_is_not_named(folder: DiscoveryFolder, start: Start) -> None:
    path = folder.write_agent("Weather", "W")
    for name in ("__pycache__", ".git", "venv"):
        (path / name).mkdir()
    changes = start()

    for name in (
        "__pycache__/agent.pyc",
        ".git/index",
        "venv/pip.py",
        ".agent.py.swp",
        "run.log",
        "memory.sqlite3-wal",
    ):
        (path / name).write_text("x")
    (path / "last.txt").write_text("x")

    assert wait_for(changes, path / "last.txt") == {path / "last.txt"}


def test_folders_that_come_go_and_move_are_named(folder: DiscoveryFolder, start: Start, tmp_path: Path) -> None:
    folder.write_agent("Weather", "W")
    changes = start()

    path = folder.write_agent("labs/deep/Planner", "P")
    wait_for(changes, folder.path / "labs")
    (path / "agent.py").write_text("in a folder that is new")
    wait_for(changes, path / "agent.py")
    (folder.path / "labs").rename(folder.path / "moved")
    wait_for(changes, folder.path / "labs", folder.path / "moved")
    (folder.path / "moved" / "deep" / "Planner" / "agent.py").write_text("in a folder that was moved")
    wait_for(changes, folder.path / "moved" / "deep" / "Planner" / "agent.py")
    shutil.rmtree(folder.path / "moved")
    wait_for(changes, folder.path / "moved")
    (folder.path / "Weather").rename(tmp_path / "elsewhere")
    wait_for(changes, folder.path / "Weather")


def test_linked_folders_are_named_at_every_tick(folder: DiscoveryFolder, start: Start, tmp_path: Path) -> None:
    linked = folder.path / "Linked"
    changes = start(linked=(linked,))

    assert wait_for(changes, linked) == {linked}
    assert wait_for(changes, linked) == {linked}


def test_discovery_folder_that_appears_is_watched(folder: DiscoveryFolder, start: Start, tmp_path: Path) -> None:
    later = DiscoveryFolder(tmp_path / "later")
    changes = start(folder.path, later.path)
    assert changes.mode == watch.Mode("watch")

    path = later.write_agent("Weather", "W")
    wait_until_everywhere(changes)
    (path / "agent.py").write_text("x")

    wait_for(changes, path / "agent.py")


def test_discovery_folder_that_is_replaced_is_watched_anew(folder: DiscoveryFolder, start: Start) -> None:
    """As a deployment does that lays a new tree beside the old one and swaps the two."""
    old = folder.write_agent("Weather", "W").parent
    changes = start()

    old.rename(old.with_name("old"))
    path = folder.write_agent("Weather", "W")
    wait_until_everywhere(changes)
    (path / "agent.py").write_text("x")

    wait_for(changes, path / "agent.py")
    assert changes.mode == watch.Mode("watch")


def test_burst_is_answered_by_two_looks_everywhere(
    folder: DiscoveryFolder, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second one because events may have been lost."""
    monkeypatch.setattr(watch, "_BURST", 20)
    monkeypatch.setattr(watch, "_AFTER_BURST_SECONDS", 0.2)
    changes = start()

    for number in range(50):
        (folder.path / f"{number}.txt").touch()

    wait_until_everywhere(changes)
    wait_until_everywhere(changes)


# --- what takes its place --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("watches", "reloads", "expected"),
    [
        (True, True, watch.Mode("watch")),
        (True, False, watch.Mode("watch")),
        (False, True, watch.Mode("scan", "GATEWAY_AGENT_WATCH is false.")),
        (False, False, watch.Mode("off", "GATEWAY_AGENT_WATCH is false. GATEWAY_AGENT_AUTO_RELOAD is false.")),
    ],
)
def test_settings_choose_the_mode(
    start: Start, settings: LazySettings, watches: bool, reloads: bool, expected: watch.Mode
) -> None:
    settings.GATEWAY_AGENT_WATCH, settings.GATEWAY_AGENT_AUTO_RELOAD = watches, reloads

    changes = start()

    assert changes.mode == expected
    assert changes.take() == (None if expected.name == "scan" else set())


def test_without_watchfiles_everything_is_scanned(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "watchfiles._rust_notify", None)

    with capture_logs() as logs:
        changes = start()

    assert changes.mode.name == "scan"
    assert changes.mode.reason.startswith("watchfiles cannot be imported (")
    assert changes.mode.reason.endswith("Install it: `pip install watchfiles`.")
    assert [(one["event"], one["reason"], one["mode"]) for one in logs] == [
        ("agent_watch_unavailable", changes.mode.reason, "scan")
    ]


def test_without_fallback_nothing_is_followed(
    start: Start, settings: LazySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.GATEWAY_AGENT_AUTO_RELOAD = False
    monkeypatch.setitem(sys.modules, "watchfiles._rust_notify", None)

    changes = start()

    assert changes.mode.name == "off"
    assert changes.mode.reason.endswith("GATEWAY_AGENT_AUTO_RELOAD is false.")
    assert changes.take() == set()


def test_watch_that_breaks_later_is_given_up(folder: DiscoveryFolder, start: Start) -> None:
    """The library ends at a name that is no Unicode."""
    changes = start()

    (folder.path / os.fsdecode(b"\xff")).mkdir()
    until(lambda: changes.take() is None)

    assert changes.mode.name == "scan"
    assert changes.mode.reason.startswith("The operating system does not watch the discovery folders (Unable to decode")


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (OSError("OS file watch limit reached. about [...]"), "Raise fs.inotify.max_user_watches, and restart."),
        (RuntimeError("Too many open files (os error 24)"), "Raise fs.inotify.max_user_instances, and restart."),
        (OSError("Function not implemented (os error 38)"), "Correct that, and restart."),
    ],
)
def test_reason_names_the_remedy(start: Start, monkeypatch: pytest.MonkeyPatch, error: Exception, remedy: str) -> None:
    def refuse(*_: Any) -> None:
        raise error

    monkeypatch.setattr(watchfiles._rust_notify, "RustNotify", refuse)

    changes = start()

    assert changes.mode.name == "scan"
    assert str(error) in changes.mode.reason
    assert changes.mode.reason.endswith(remedy)


LIMITED = """
import os, sys, time
from pathlib import Path
import django
django.setup()
from apps.catalog import watch
root = Path(sys.argv[1])
changes = watch.Changes([root], lambda: ())
print(changes.mode.name)
for number in range(20):
    (root / f"new{number}").mkdir()
deadline = time.monotonic() + 20
while changes.take() is not None and time.monotonic() < deadline:
    time.sleep(0.02)
print(changes.mode.name, changes.mode.reason)
"""


def run_limited(folder: Path, limits: str) -> list[str]:
    """What LIMITED prints where the operating system allows no more than `limits`. Skips where that cannot be set."""
    script = f"{limits} && exec {sys.executable} -c '{textwrap.dedent(LIMITED)}' {folder}"
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "gateway_site.settings", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "sh", "-c", script],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"the limits of a user namespace cannot be set here: {done.stderr[-200:]}")
    return done.stdout.splitlines()


@pytest.mark.skipif(not shutil.which("unshare"), reason="needs Linux")
def test_limit_that_is_reached_at_the_start_is_told(folder: DiscoveryFolder) -> None:
    for number in range(20):
        folder.write_agent(f"Agent{number}", "A")

    told = run_limited(folder.path, "echo 10 > /proc/sys/user/max_inotify_watches")

    assert told[0] == "scan"
    assert "Raise fs.inotify.max_user_watches, and restart." in told[1]


@pytest.mark.skipif(not shutil.which("unshare"), reason="needs Linux")
def test_limit_that_is_reached_later_is_told(folder: DiscoveryFolder) -> None:
    told = run_limited(folder.path, "echo 10 > /proc/sys/user/max_inotify_watches")

    assert told[0] == "watch"
    assert told[1].startswith("scan The limit of inotify watches is reached")


@pytest.mark.skipif(not shutil.which("unshare"), reason="needs Linux")
def test_limit_of_instances_is_told(folder: DiscoveryFolder) -> None:
    told = run_limited(folder.path, "echo 0 > /proc/sys/user/max_inotify_instances")

    assert told[0] == "scan"
    assert "Raise fs.inotify.max_user_instances, and restart." in told[1]
