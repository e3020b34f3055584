import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.core import live_config
from tests.harness.forked import Forked

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _fresh_configuration() -> Iterator[None]:
    """No test sees the snapshot of another."""
    live_config.forget()
    yield
    live_config.forget()


@pytest.fixture
def count_queries() -> Callable[[Callable[[], Any]], int]:
    def count(ask: Callable[[], Any]) -> int:
        with CaptureQueriesContext(connection) as queries:
            ask()
        return len(queries)

    return count


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """The environment of a fresh installation in its own data folder, with no LLM server to find."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not re.match(r"GATEWAY_|OPENAI_|DATABASE_URL|REDIS_URL", name)
    }
    return kept | {
        "GATEWAY_DATA_DIR": str(tmp_path / "data"),
        "GATEWAY_DEFAULT_UPSTREAM": "demo",
        "GATEWAY_LOG_LEVEL": "WARNING",
    }


@pytest.fixture
def manage(environ: dict[str, str]) -> Iterator[Callable[..., "Forked | subprocess.Popen[str]"]]:
    """Starts a command of manage.py, with `by=fresh` in a new interpreter; its output is piped. What still runs at the
    end is stopped."""
    started: list[Forked | subprocess.Popen[str]] = []

    def start(*arguments: str, by: Any = Forked, **variables: str) -> "Forked | subprocess.Popen[str]":
        process: Forked | subprocess.Popen[str] = by(
            ["manage.py", *arguments], folder=ROOT, environment=environ | variables
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.terminate()
        process.communicate(timeout=30)
        for stream in (process.stdout, process.stderr):
            assert stream is not None
            stream.close()
