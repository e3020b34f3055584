"""Each line is one line of JSON, whatever it holds and whatever the modules in the process do."""

import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import structlog

from apps.observability import logs
from apps.observability.plain import plain
from apps.observability.writer import LineWriter, WholeLines
from tests.harness import forked
from tests.harness.processes import ROOT, clean_environment

SCRIPT = Path(__file__).with_name("odd_lines.py")


def environment(folder: Path, **extra: str) -> dict[str, str]:
    return clean_environment(GATEWAY_DATA_DIR=str(folder), GATEWAY_LOG_FORMAT="json", **extra)


@pytest.fixture(scope="module")
def errors(tmp_path_factory: pytest.TempPathFactory) -> str:
    settings = environment(
        tmp_path_factory.mktemp("odd"), GATEWAY_LOG_LEVEL="warning",
        GATEWAY_LOG_LEVELS="apps.observability=INFO,apps.upstreams=DEBUG,openai.agents=INFO",
    )  # fmt: skip
    done = forked.run([str(SCRIPT)], folder=ROOT, environment=settings, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.fixture(scope="module")
def lines(errors: str) -> dict[str, dict[str, Any]]:
    parsed = [json.loads(line) for line in errors.splitlines() if line.startswith("{")]
    return {line["event"]: line for line in parsed}


def test_every_line_is_there_and_is_json_but_what_a_module_printed(errors: str, lines: dict[str, Any]) -> None:
    assert list(lines) == [
        "plain", "bytes", "huge", "nested", "refusing", "raised", "%d of %s", "<class '__main__.Deep'>", "two\nlines",
        "shown", "sdk", "late", "closed",
    ]  # fmt: skip
    assert [line for line in errors.splitlines() if not line.startswith("{")] == ["begun, and ended"]


def test_values_that_json_does_not_know_are_shown_and_cut(lines: dict[str, Any]) -> None:
    assert (lines["bytes"]["value"], lines["bytes"]["half"]) == (r"b'\xff\xfe'", "?")
    assert (lines["bytes"]["nul"], lines["bytes"]["key"]) == ("ab", {"('a', 1)": "tuple"})
    assert lines["huge"]["value"] == "x" * 4000 + "… (996000 more characters)"
    assert len(json.dumps(lines["huge"])) < 12_000
    assert lines["nested"]["value"] == [[["[[...]]"]]]
    assert lines["refusing"]["value"] == "<Deep that cannot be shown>"
    assert lines["refusing"]["error"] == "<Refuses that cannot be shown>"


def test_traceback_has_frames_and_no_local_variables(errors: str, lines: dict[str, Any]) -> None:
    (told,) = lines["raised"]["exception"]
    assert told["exc_type"] == "Refuses"
    assert told["frames"][0]["filename"].endswith("odd_lines.py")
    assert "local variable" not in errors


def test_line_of_a_library_whose_arguments_do_not_fit_says_so(lines: dict[str, Any]) -> None:
    assert lines["%d of %s"]["unreadable"].startswith("TypeError")
    assert lines["%d of %s"]["logger"] == "some.library"


def test_log_level_that_is_none_ends_the_process_with_a_sentence(tmp_path: Path) -> None:
    settings = environment(tmp_path, GATEWAY_LOG_LEVELS="apps=LOUD")
    done = forked.run(["manage.py", "check"], folder=ROOT, environment=settings, timeout=60)

    assert done.returncode == 1
    assert done.stderr == (
        "GATEWAY_LOG_LEVELS for apps is 'LOUD', which is no level: use one of DEBUG, INFO, WARNING, ERROR, CRITICAL.\n"
    )


def test_process_whose_standard_error_is_full_or_closed_goes_on(tmp_path: Path) -> None:
    code = "import django; django.setup(); import structlog, logging; structlog.get_logger('a').error('x'); "
    code += "logging.error('y'); print('goes on')"
    settings = environment(tmp_path, DJANGO_SETTINGS_MODULE="gateway_site.settings")
    for redirection in ("2>/dev/full", "2>&-"):
        done = subprocess.run(
            f'"{sys.executable}" -c "{code}" {redirection}',
            shell=True, cwd=ROOT, env=settings, stdout=subprocess.PIPE, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert (redirection, done.stdout) == (redirection, "goes on\n")


# --- the writer ------------------------------------------------------------------------------------------------------


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def test_lines_that_cannot_be_written_are_told_of_once_it_works_again(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    full = os.open("/dev/full", os.O_WRONLY)
    told: list[int] = []
    writer = LineWriter(told.append, full)

    for _ in range(3):
        writer.write(b"lost\n")
    assert told == []
    os.dup2(writing, full)
    writer.write(b"kept\n")
    writer.write(b"kept\n")
    os.close(full)

    assert (told, os.read(reading, 100)) == ([3], b"kept\nkept\n")


def test_line_after_all_descriptors_were_closed_goes_to_standard_error_and_to_no_other_file(tmp_path: Path) -> None:
    """Celery's beat closes what it did not open; the next file that it opens is the database."""
    script = (
        "import os, sys; sys.path.insert(0, '.'); from apps.observability.writer import LineWriter\n"
        "writer = LineWriter(print); writer.write(b'before\\n'); os.closerange(3, 1024)\n"
        "file = open(sys.argv[1], 'w'); writer.write(b'after\\n'); writer.write(b'later\\n')\n"
    )
    done = forked.run(
        ["-c", script, str(tmp_path / "file")], folder=ROOT, environment=environment(tmp_path), timeout=60
    )

    assert (done.stderr, (tmp_path / "file").read_text()) == ("before\nafter\nlater\n", "")


def test_line_that_was_cut_does_not_spoil_the_next_one(tmp_path: Path) -> None:
    """A file that may grow to so many bytes stands for a disk with so much room."""
    script = (
        "import os, resource, sys; sys.path.insert(0, '.'); from apps.observability.writer import LineWriter\n"
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (8, resource.RLIM_INFINITY))\n"
        "told = []; writer = LineWriter(told.append, os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT))\n"
        "writer.write(b'first, cut\\n'); writer.write(b'lost\\n')\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))\n"
        "writer.write(b'whole\\n'); print(told)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "log")],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert (done.stdout, (tmp_path / "log").read_text()) == ("[2]\n", "first, c\nwhole\n"), done.stderr


def test_text_of_modules_goes_out_in_whole_lines(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    writer = LineWriter(lambda _: None, writing)
    stderr = WholeLines(writer, sys.__stderr__)  # type: ignore[arg-type]

    stderr.write("half, ")
    writer.write(b"{}\n")
    stderr.write("whole\nrest")
    stderr.end()

    assert os.read(reading, 100) == b"{}\nhalf, whole\nrest\n"


def test_terminal_is_not_moved_by_what_callers_send() -> None:
    event = logs._printable(None, "", {"event": "request_finished", "path": "/\x1b[2J\nforged", "n": 1})

    assert event == {"event": "request_finished", "path": r"/\x1b[2J\nforged", "n": 1}


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (2**70, str(2**70)),
        ({1: {2: {3: {4: {5: 6}}}}}, {"1": {"2": {"3": {"4": "{5: 6}"}}}}),
        (list(range(60)), [*range(50), "… (10 more)"]),
        (("a", {"b"}), ["a", ["b"]]),
        (None, None),
    ],
)
def test_plain_value(value: Any, shown: Any) -> None:
    assert plain(value) == shown


class Heard:
    """What structlog writes to, of a module that sets it up for itself."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def info(self, *args: Any, **facts: Any) -> None:
        self.told.append((args, facts))


def drop(_logger: Any, _method: str, _line: Any) -> Any:
    raise structlog.DropEvent


@pytest.mark.parametrize(
    ("last", "told"),
    [
        (lambda _logger, _method, line: repr(line), [(("{'at': 1, 'what': 2, 'event': 'done'}",), {})]),
        (lambda _logger, _method, line: line, [((), {"at": 1, "what": 2, "event": "done"})]),
        (lambda _logger, _method, line: ((line["event"],), {"extra": line["at"]}), [(("done",), {"extra": 1})]),
        (drop, []),
    ],
)
def test_line_arrives_in_each_form_that_structlog_knows(last: Any, told: list[Any]) -> None:
    heard = Heard()

    logs._class_of(logging.INFO)(heard, [last], {}).bind(at=1).info("done", what=2)

    assert heard.told == told


def test_time_of_a_line_is_now_in_utc() -> None:
    before = datetime.now(UTC)
    line = logs.surrounded(None, "warn", {"event": "x"})
    after = datetime.now(UTC)

    assert before <= datetime.fromisoformat(line["timestamp"]) <= after
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line["timestamp"])
