"""The first start as operators meet it: real processes on a fresh data folder."""

import os
import re
import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.harness.forked import Forked

Manage = Callable[..., Forked]
CREDENTIAL = re.compile(r"agw_[0-9a-f]{8}_[\w-]{43}")
PASSWORD = re.compile(r"password\s+(\S{16})$", re.MULTILINE)


def finish(process: Forked) -> tuple[int, str, str]:
    out, error = process.communicate(timeout=60)
    return process.returncode, out, error


def rows(environ: dict[str, str], query: str) -> list[tuple[object, ...]]:
    database = sqlite3.connect(Path(environ["GATEWAY_DATA_DIR"]) / "gateway.sqlite3")
    try:
        return database.execute(query).fetchall()
    finally:
        database.close()


def test_first_time_prints_each_credential_once_and_the_second_time_nothing(
    manage: Manage, environ: dict[str, str]
) -> None:
    code, out, error = finish(manage("bootstrap"))
    assert (code, error) == (0, "")
    assert len(CREDENTIAL.findall(out)) == len(PASSWORD.findall(out)) == 1
    assert re.search(r"Default\s+demo", out)
    before = rows(environ, "SELECT number FROM core_configversion")

    assert finish(manage("bootstrap")) == (0, "Nothing to do: this is set up.\n", "")
    assert rows(environ, "SELECT number FROM core_configversion") == before
    assert rows(environ, "SELECT username, is_superuser FROM auth_user") == [("admin", 1)]
    assert rows(environ, "SELECT name, may_chat, may_administer FROM access_apikey") == [("First key", 1, 1)]
    assert rows(environ, "SELECT slug, kind, default_model, is_default FROM upstreams_upstream") == [
        ("demo", "demo", "demo", 1)
    ]


def test_stored_secrets_are_for_the_owner_alone(manage: Manage, environ: dict[str, str]) -> None:
    finish(manage("bootstrap"))
    folder = Path(environ["GATEWAY_DATA_DIR"])
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "secret_key").stat().st_mode) == 0o600


def test_two_at_once_make_one_of_each(manage: Manage, environ: dict[str, str]) -> None:
    outcomes = [finish(process) for process in [manage("bootstrap") for _ in range(3)]]
    assert [code for code, _, _ in outcomes] == [0, 0, 0]
    printed = "".join(out for _, out, _ in outcomes)
    assert len(CREDENTIAL.findall(printed)) == len(PASSWORD.findall(printed)) == 1
    assert rows(environ, "SELECT count(*) FROM auth_user") == [(1,)]
    assert rows(environ, "SELECT count(*) FROM access_apikey") == [(1,)]
    assert rows(environ, "SELECT count(*) FROM upstreams_upstream") == [(1,)]


def test_given_credentials_are_used_and_not_echoed(manage: Manage) -> None:
    given = {
        "GATEWAY_BOOTSTRAP_API_KEY": "a-key-for-the-pipeline",
        "GATEWAY_BOOTSTRAP_ADMIN_PASSWORD": "correct horse battery",
    }
    code, out, _ = finish(manage("bootstrap", **given))
    assert code == 0
    assert not [secret for secret in given.values() if secret in out]
    assert "as given in GATEWAY_BOOTSTRAP_API_KEY" in out
    check = (
        "from django.contrib.auth import authenticate; from apps.access.keys import find_key; "
        "print(find_key('a-key-for-the-pipeline').name, "
        "authenticate(username='admin', password='correct horse battery'))"
    )
    assert finish(manage("shell", "--verbosity", "0", "-c", check))[1] == "First key admin\n"


def test_short_given_key_is_refused_whole(manage: Manage, environ: dict[str, str]) -> None:
    code, out, error = finish(manage("bootstrap", GATEWAY_BOOTSTRAP_API_KEY="short"))
    assert (code, out) == (1, "")
    assert "GATEWAY_BOOTSTRAP_API_KEY is too short: give at least 16 characters" in error
    assert "Traceback" not in error
    assert rows(environ, "SELECT count(*) FROM auth_user") == [(0,)]
    assert finish(manage("bootstrap"))[0] == 0


def test_weak_given_password_is_remarked(manage: Manage) -> None:
    code, out, _ = finish(manage("bootstrap", GATEWAY_BOOTSTRAP_ADMIN_PASSWORD="admin"))
    assert code == 0
    assert "the password of GATEWAY_BOOTSTRAP_ADMIN_PASSWORD is weak" in out


def test_unreachable_database_is_one_sentence(manage: Manage) -> None:
    code, out, error = finish(manage("bootstrap", DATABASE_URL="postgres://u:p@127.0.0.1:9/none"))
    assert (code, out) == (1, "")
    assert error.startswith("CommandError: The database at 127.0.0.1:9 cannot be used")
    assert "DATABASE_URL" in error
    assert "Traceback" not in error


def test_damaged_database_is_one_sentence(manage: Manage, environ: dict[str, str]) -> None:
    folder = Path(environ["GATEWAY_DATA_DIR"])
    folder.mkdir()
    (folder / "gateway.sqlite3").write_bytes(b"this is no database" * 100)
    code, _, error = finish(manage("bootstrap"))
    assert code == 1
    assert error.startswith(f"CommandError: The database {folder}/gateway.sqlite3 cannot be used")
    assert "Traceback" not in error


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_data_folder_without_access_is_one_sentence(manage: Manage, environ: dict[str, str]) -> None:
    finish(manage("bootstrap"))
    folder = Path(environ["GATEWAY_DATA_DIR"])
    (folder / "bootstrap.lock").unlink()
    folder.chmod(0o500)
    try:
        code, _, error = finish(manage("bootstrap"))
    finally:
        folder.chmod(0o700)
    assert code == 1
    assert "cannot be written" in error
    assert "Traceback" not in error
