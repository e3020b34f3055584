"""Settings from the environment, each in a process of its own."""

import json
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.harness import forked
from tests.harness.processes import ROOT, clean_environment


def settings_of(folder: Path, *names: str, **environment: str) -> dict[str, Any]:
    """The values of these settings in a process with this environment."""
    script = "import json, sys; from gateway_site import settings; "
    script += "print(json.dumps({name: getattr(settings, name) for name in sys.argv[1:]}))"
    done = subprocess.run(
        [sys.executable, "-c", script, *names],
        cwd=ROOT,
        env=clean_environment(GATEWAY_DATA_DIR=str(folder), **environment),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    values: dict[str, Any] = json.loads(done.stdout)
    return values


def test_secret_key_is_generated_once_and_readable_by_its_owner_alone(tmp_path: Path) -> None:
    folder = tmp_path / "data"

    first = settings_of(folder, "SECRET_KEY")["SECRET_KEY"]
    second = settings_of(folder, "SECRET_KEY")["SECRET_KEY"]

    assert first == second == (folder / "secret_key").read_text()
    assert len(first) > 80
    assert stat.S_IMODE((folder / "secret_key").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert [path.name for path in folder.iterdir()] == ["secret_key"]


def test_secret_keys_of_two_installations_differ(tmp_path: Path) -> None:
    one, other = (settings_of(tmp_path / name, "SECRET_KEY")["SECRET_KEY"] for name in "ab")

    assert one != other


def test_secret_key_is_the_same_for_processes_that_start_together(tmp_path: Path) -> None:
    with ThreadPoolExecutor(6) as pool:
        keys = list(pool.map(lambda _: settings_of(tmp_path / "data", "SECRET_KEY")["SECRET_KEY"], range(6)))

    assert len(set(keys)) == 1
    assert len(keys[0]) > 80


def test_secret_key_of_the_environment_counts_and_is_not_stored(tmp_path: Path) -> None:
    told = settings_of(tmp_path, "SECRET_KEY", GATEWAY_SECRET_KEY="given")

    assert told == {"SECRET_KEY": "given"}
    assert list(tmp_path.iterdir()) == []


SAFETY = (
    "DEBUG",
    "SESSION_COOKIE_SECURE",
    "CSRF_COOKIE_SECURE",
    "SECURE_SSL_REDIRECT",
    "SECURE_HSTS_SECONDS",
    "SECURE_HSTS_INCLUDE_SUBDOMAINS",
    "SECURE_PROXY_SSL_HEADER",
    "CSRF_TRUSTED_ORIGINS",
    "ALLOWED_HOSTS",
)
LOCAL = ["localhost", "127.0.0.1", "[::1]"]


def test_local_installation_is_plain_http_on_this_machine_alone(tmp_path: Path) -> None:
    assert settings_of(tmp_path, "GATEWAY_HOST", *SAFETY) == {
        "GATEWAY_HOST": "127.0.0.1",
        "DEBUG": False,
        "SESSION_COOKIE_SECURE": False,
        "CSRF_COOKIE_SECURE": False,
        "SECURE_SSL_REDIRECT": False,
        "SECURE_HSTS_SECONDS": 0,
        "SECURE_HSTS_INCLUDE_SUBDOMAINS": False,
        "SECURE_PROXY_SSL_HEADER": None,
        "CSRF_TRUSTED_ORIGINS": [],
        "ALLOWED_HOSTS": LOCAL,
    }


def test_public_https_url_turns_everything_on(tmp_path: Path) -> None:
    assert settings_of(tmp_path, *SAFETY, GATEWAY_PUBLIC_URL="https://agents.example.com:8443/") == {
        "DEBUG": False,
        "SESSION_COOKIE_SECURE": True,
        "CSRF_COOKIE_SECURE": True,
        "SECURE_SSL_REDIRECT": True,
        "SECURE_HSTS_SECONDS": 31_536_000,
        "SECURE_HSTS_INCLUDE_SUBDOMAINS": True,
        "SECURE_PROXY_SSL_HEADER": ["HTTP_X_FORWARDED_PROTO", "https"],
        "CSRF_TRUSTED_ORIGINS": ["https://agents.example.com:8443"],
        "ALLOWED_HOSTS": [*LOCAL, "agents.example.com"],
    }


def test_public_http_url_allows_its_host_alone(tmp_path: Path) -> None:
    told = settings_of(tmp_path, *SAFETY, GATEWAY_PUBLIC_URL="http://agents.lan", GATEWAY_ALLOWED_HOSTS="a.lan,b.lan")

    assert (told["SESSION_COOKIE_SECURE"], told["SECURE_SSL_REDIRECT"]) == (False, False)
    assert told["ALLOWED_HOSTS"] == [*LOCAL, "a.lan", "b.lan", "agents.lan"]


def test_no_origin_is_allowed_unless_named(tmp_path: Path) -> None:
    assert settings_of(tmp_path, "CORS_ALLOWED_ORIGINS") == {"CORS_ALLOWED_ORIGINS": []}


def test_sqlite_is_tuned_for_many_readers_and_a_writer(tmp_path: Path) -> None:
    database = settings_of(tmp_path, "DATABASES")["DATABASES"]["default"]

    assert database["NAME"] == str(tmp_path / "gateway.sqlite3")
    assert (database["OPTIONS"]["transaction_mode"], database["OPTIONS"]["timeout"]) == ("IMMEDIATE", 20)
    assert "journal_mode=WAL" in database["OPTIONS"]["init_command"]


def test_database_url_names_a_postgresql(tmp_path: Path) -> None:
    url = "postgres://user:pass@db.example:5433/gateway"

    database = settings_of(tmp_path, "DATABASES", DATABASE_URL=url)["DATABASES"]["default"]

    named = {name: database[name] for name in ("ENGINE", "HOST", "PORT", "USER", "PASSWORD", "NAME")}
    assert named == {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": "db.example",
        "PORT": 5433,
        "USER": "user",
        "PASSWORD": "pass",
        "NAME": "gateway",
    }


def test_discovery_path_names_several_folders(tmp_path: Path) -> None:
    script = "from gateway_site import settings as s; print(*s.GATEWAY_AGENT_DISCOVERY_PATH, sep='|')"
    environment = clean_environment(GATEWAY_DATA_DIR=str(tmp_path), GATEWAY_AGENT_DISCOVERY_PATH="agents:/srv/agents:")
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )

    assert done.stdout.strip().split("|") == [str(ROOT / "agents"), "/srv/agents"]


@pytest.mark.parametrize("url", ["", "https://agents.example.com"])
def test_djangos_deployment_check_has_no_complaint(tmp_path: Path, url: str) -> None:
    environment = clean_environment(GATEWAY_DATA_DIR=str(tmp_path), GATEWAY_PUBLIC_URL=url)
    deploy = ["--deploy"] if url else []
    check = ["manage.py", "check", "--fail-level", "WARNING", *deploy]
    done = forked.run(check, folder=ROOT, environment=environment, timeout=60)

    assert (done.returncode, done.stdout.strip()) == (0, "System check identified no issues (0 silenced).")
