"""`manage.py serve` as a process: what it prints, when, and what it refuses."""

import re
import shlex
import signal
import socket
import sqlite3
import subprocess
import urllib.request
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.harness.forked import Forked, fresh

Manage = Callable[..., Forked]


def read_until(process: Forked, pattern: str) -> str:
    text = ""
    for line in process.stdout:
        text += line
        if re.search(pattern, line):
            return text
    raise AssertionError(f"{pattern} never came:\n{text}\n{process.stderr.read()}")


def url_of(text: str) -> str:
    found = re.search(r"listens on (\S+)", text)
    assert found is not None
    return found[1]


def run_printed_curl(text: str) -> str:
    found = re.search(r"Try it\s+(curl .*)$", text, re.MULTILINE)
    assert found is not None
    command = [*shlex.split(found[1]), "--silent", "--fail-with-body"]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=10).stdout


def test_first_start_prints_what_works_as_pasted(manage: Manage) -> None:
    server = manage("serve", "--bootstrap", "--port", "0", by=fresh)
    text = read_until(server, "Ctrl-C")
    assert '"object":"list"' in run_printed_curl(text).replace(" ", "")
    for path in ("/admin/login/", "/docs", "/health", "/static/console/icon.svg", "/static/unfold/css/styles.css"):
        assert urllib.request.urlopen(url_of(text) + path, timeout=10).status == 200
    server.send_signal(signal.SIGINT)
    assert (server.wait(30), server.communicate()[0]) == (0, "Stopped.\n")


def test_later_start_keeps_everything_and_shows_no_secret(manage: Manage) -> None:
    manage("bootstrap").communicate(timeout=60)
    text = read_until(manage("serve", "--bootstrap", "--port", "0"), "Ctrl-C")
    assert "agw_" not in text
    assert "First start" not in text
    assert '-H "x-api-key: $GATEWAY_API_KEY"' in text


def test_given_key_is_named_by_its_variable(manage: Manage) -> None:
    server = manage("serve", "--bootstrap", "--port", "0", GATEWAY_BOOTSTRAP_API_KEY="a-key-for-the-pipeline")
    text = read_until(server, "Ctrl-C")
    assert "a-key-for-the-pipeline" not in text
    assert '-H "x-api-key: $GATEWAY_BOOTSTRAP_API_KEY"' in text


def test_several_workers_serve_one_port(manage: Manage, two_workers: Callable[[], dict[str, str]]) -> None:
    server = manage("serve", "--bootstrap", "--port", "0", by=fresh, **two_workers())
    text = read_until(server, "Ctrl-C")
    assert '"object":"list"' in run_printed_curl(text).replace(" ", "")
    server.send_signal(signal.SIGTERM)
    assert server.wait(30) == 0


def test_used_port_is_one_sentence_and_sets_nothing_up(manage: Manage, environ: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = manage("serve", "--bootstrap", "--port", str(port))
        out, error = server.communicate(timeout=30)
    assert (server.returncode, out) == (1, "")
    assert error == (
        f"CommandError: Port {port} is in use. Is the gateway running already? "
        f"Another port: GATEWAY_PORT={port + 1} make run\n"
    )


def test_address_of_another_machine_is_one_sentence(manage: Manage) -> None:
    server = manage("serve", "--bootstrap", "--port", "0", "--host", "192.0.2.1")
    _, error = server.communicate(timeout=30)
    assert server.returncode == 1
    assert error.startswith("CommandError: Cannot listen on 192.0.2.1:0 (")


def test_missing_migrations_are_refused(manage: Manage) -> None:
    server = manage("serve", "--port", "0")
    out, error = server.communicate(timeout=30)
    assert (server.returncode, out) == (1, "")
    assert re.fullmatch(r"CommandError: The database lacks \d+ migrations\. Run `manage\.py bootstrap`.*\n", error)


@pytest.mark.parametrize("workers", [1, 2])
def test_application_that_cannot_start_is_told_in_sentences_and_by_the_exit_status(
    manage: Manage, environ: dict[str, str], two_workers: Callable[[], dict[str, str]], workers: int
) -> None:
    variables = two_workers() if workers == 2 else {}
    manage("bootstrap", **variables).communicate(timeout=60)
    with closing(sqlite3.connect(Path(environ["GATEWAY_DATA_DIR"]) / "gateway.sqlite3")) as database:
        database.execute("DROP TABLE access_grant")  # as a disk that lost some of it

    server = manage("serve", "--port", "0", **variables)
    out, error = server.communicate(timeout=60)

    assert (server.returncode, out) == (1, "")
    assert "gateway.sqlite3 cannot be used (no such table: access_grant). Is its folder writable" in error
    assert [word for word in ("Traceback", "Unclosed") if word in error] == []
    assert error.splitlines()[-1] == (
        "CommandError: The gateway could not start; the last lines of its log, above, say why."
    )
