"""How many runs a process that was killed took with it: said by the next one, and once."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.test import override_settings

from apps.execution.crash_count import CrashCount, Missing

COUNTS = """
import sys
from django.conf import settings
settings.configure(DATA_DIR=sys.argv[1], INSTALLED_APPS=[
    "django.contrib.auth", "django.contrib.contenttypes", "apps.core", "apps.observability"])
import django
django.setup(set_prefix=False)
from apps.execution.crash_count import CrashCount
count = CrashCount()
count.start()
for _ in range(7):
    count.begun()
for _ in range(5):
    count.ended()
count.written(3)
print("counted", flush=True)
sys.stdin.read()
count.stop()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    with override_settings(DATA_DIR=tmp_path):
        yield tmp_path


@pytest.fixture
def process(folder: Path) -> Iterator["subprocess.Popen[str]"]:
    """A process that has counted seven runs begun, five ended, three written, and lives."""
    with subprocess.Popen(
        [sys.executable, "-c", COUNTS, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "counted\n"
        yield process
        process.kill()


def test_next_process_says_what_a_killed_one_took(folder: Path, process: "subprocess.Popen[str]") -> None:
    while_it_lives = CrashCount()
    assert while_it_lives.start() == []
    while_it_lives.stop()

    process.send_signal(signal.SIGKILL)
    process.wait()
    after = CrashCount()

    assert after.start() == [Missing(str(process.pid), ended=2, under_way=2)]
    once_more = CrashCount()
    assert once_more.start() == []  # it is said once; and `after` lives
    once_more.stop()
    after.stop()


def test_clean_stop_leaves_nothing(folder: Path, process: "subprocess.Popen[str]") -> None:
    process.communicate()
    assert process.returncode == 0

    count = CrashCount()
    assert count.start() == []
    count.stop()
    assert list((folder / "runs-in-hand").iterdir()) == []


def test_folder_that_cannot_be_written_to_stops_nothing(folder: Path) -> None:
    (folder / "runs-in-hand").write_text("a file in its place")

    count = CrashCount()
    assert count.start() == []
    count.begun()
    count.stop()
    assert [one.name for one in folder.iterdir()] == ["runs-in-hand"]
