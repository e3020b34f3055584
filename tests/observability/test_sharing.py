"""The folder in which workers tell each other their metrics."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from apps.observability.family import Family, Rules, added_up
from apps.observability.sharing import VARIABLE, Folder, Parent, Sharing, Written


def counter(value: float) -> Family:
    return Family("c", "counter", "Counts.", [("c_total", (), value)])


def gauge(value: float) -> Family:
    return Family("g", "gauge", "Shows.", [("g", (), value)])


def sums(folder: Folder) -> dict[str, float]:
    return {name: value for family in added_up(folder.read(), Rules()) for name, _, value in family.samples}


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder.made(tmp_path / "metrics")


@pytest.fixture(autouse=True)
def _environment() -> Iterator[None]:
    before = os.environ.copy()
    yield
    os.environ.clear()
    os.environ.update(before)


def test_counters_of_the_dead_are_kept_and_their_gauges_are_not(folder: Folder) -> None:
    for name, value in (("1-a", 1.0), ("2-b", 10.0), ("3-c", 100.0)):
        folder.write(name, Written([counter(value), gauge(value)]))

    folder.keep_of_the_dead({2})
    assert sums(folder) == {"c_total": 111, "g": 10}
    assert sorted(one.name for one in folder.path.iterdir()) == ["2-b", "former"]

    folder.keep_of_the_dead(set())
    assert sums(folder) == {"c_total": 111}


def test_file_that_is_read_after_its_worker_was_folded_counts_once(folder: Folder) -> None:
    """As when the parent is between its two steps."""
    folder.write("1-a", Written([counter(5)]))
    folder.keep_of_the_dead(set())
    folder.write("1-a", Written([counter(5)]))

    assert sums(folder) == {"c_total": 5}
    folder.keep_of_the_dead(set())
    assert sums(folder) == {"c_total": 5}


def test_what_others_put_into_the_folder_is_left_alone(folder: Folder) -> None:
    for name in (".nfs0001", "lost+found", "2-b.new"):
        (folder.path / name).write_bytes(b"?")
    folder.write("1-a", Written([counter(5)]))

    folder.keep_of_the_dead(set())

    assert sums(folder) == {"c_total": 5}


def test_parent_removes_what_gateways_left_that_are_gone(tmp_path: Path) -> None:
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    for name in (gone.stdout.decode().strip(), str(os.getpid()), "1"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "old").write_bytes(b"")

    Folder.made(tmp_path)

    assert sorted(str(one.relative_to(tmp_path)) for one in tmp_path.rglob("*")) == sorted(
        ["1", "1/old", str(os.getpid())]
    )


def test_workers_do_without_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "metrics").write_text("in the way")
    with structlog.testing.capture_logs() as lines:
        parent = Parent(tmp_path / "metrics")
        parent.keep_of_the_dead([1])
        parent.close()
        sharing = Sharing(lambda: [counter(7)])
        sharing.start()

    assert [line["event"] for line in lines] == ["metrics_not_shared"]
    assert VARIABLE not in os.environ
    assert sharing.everyones() == [[counter(7)]]
    sharing.stop()


class Disk:
    """A folder that can be filled up: what is written is a device that is always full."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._links: list[Path] = []

    def fill(self, name: str) -> None:
        link = self._folder.path / f"{name}.new"
        link.symlink_to("/dev/full")
        self._links.append(link)


def test_full_disk_costs_one_line_and_no_sum_falls(folder: Folder) -> None:
    os.environ[VARIABLE] = str(folder.path)
    count = 0.0
    folder.write("1-a", Written([counter(100)]))
    sharing = Sharing(lambda: [counter(count)])
    count = 5.0
    sharing.start()
    sharing._periodic.stop()
    assert sorted(family.samples[0][2] for part in sharing.everyones() for family in part) == [5, 100]

    with structlog.testing.capture_logs() as lines:
        for count in (6.0, 7.0):  # noqa: B007  # the function above reads it
            Disk(folder).fill(sharing._name)
            found = sharing.everyones()

    assert sorted(family.samples[0][2] for part in found for family in part) == [5, 100]  # as it wrote last
    assert [(line["event"], "No space left" in line["error"]) for line in lines] == [("metrics_not_shared", True)]
    assert sorted(family.samples[0][2] for part in sharing.everyones() for family in part) == [7, 100]
    sharing.stop()


def test_folder_that_is_taken_away_leaves_the_worker_its_own(folder: Folder) -> None:
    os.environ[VARIABLE] = str(folder.path)
    sharing = Sharing(lambda: [counter(3.0)])
    sharing.start()
    sharing._periodic.stop()
    for file in folder.path.iterdir():
        file.unlink()
    folder.path.rmdir()

    assert sharing.everyones() == [[counter(3.0)]]
    sharing.stop()


def test_last_word_of_a_worker_stays(folder: Folder) -> None:
    os.environ[VARIABLE] = str(folder.path)
    counted = [1.0]
    sharing = Sharing(lambda: [counter(counted[0])])
    sharing.start()
    counted[0] = 9.0
    sharing.stop()

    assert sums(folder) == {"c_total": 9}
    assert sharing.everyones() == [[counter(9)]]


def test_workers_that_are_asked_in_turn_never_tell_of_less(folder: Folder) -> None:
    os.environ[VARIABLE] = str(folder.path)
    counted = {"one": 0.0, "other": 0.0}
    workers = {
        name: Sharing(lambda name=name: [counter(counted[name])])  # type: ignore[misc]
        for name in counted
    }
    for sharing in workers.values():
        sharing.start()
        sharing._periodic.stop()

    told = []
    for name in ("one", "other", "other", "one", "other", "one", "one"):
        counted["one"] += 1
        counted["other"] += 1
        told.append(sum(family.samples[0][2] for part in workers[name].everyones() for family in part))

    assert told == sorted(told)
    assert told[-1] == 7 + 5  # the other one was asked last at the fifth time
    for sharing in workers.values():
        sharing.stop()
    assert sums(folder) == {"c_total": 14}
