"""A stray agents/__init__.py hides the SDK: every way of starting refuses, and says why."""

import subprocess
import sys
from pathlib import Path

import pytest

from gateway_site.sdk_guard import hidden_sdk_problem
from tests.harness.processes import ROOT, clean_environment


@pytest.fixture
def hidden(tmp_path: Path) -> Path:
    """A folder as the repository's, with the file that must not be there."""
    for name in ("manage.py", "apps", "gateway_site"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "agents" / "Mine").mkdir(parents=True)
    (tmp_path / "agents" / "__init__.py").touch()
    return tmp_path


def start(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = clean_environment(GATEWAY_DATA_DIR=str(folder / "var"), PYTHONPATH=str(folder))
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["-c", "import sys; sys.argv = ['manage.py', 'check']; import manage; manage.main()"],
        ["-c", "import gateway_site.asgi"],
    ],
    ids=["manage", "asgi"],
)
def test_stray_init_file_is_refused_with_a_remedy(hidden: Path, arguments: list[str]) -> None:
    done = start(hidden, *arguments)

    reason = f"{hidden}/agents/__init__.py hides the OpenAI Agents SDK, whose package is called `agents` too."
    remedy = "Delete that file: the folder of drop-in agents must not be a Python package."
    told = (done.returncode, done.stdout, done.stderr.strip())
    assert told == (1, "", f"Agent Gateway cannot start: {reason} {remedy}")


def test_folder_without_the_file_starts(hidden: Path) -> None:
    (hidden / "agents" / "__init__.py").unlink()

    done = start(hidden, "-c", "import gateway_site.sdk_guard as g; print(g.hidden_sdk_problem())")

    assert (done.returncode, done.stdout.strip()) == (0, "None")


def test_missing_sdk_is_named(hidden: Path) -> None:
    (hidden / "agents" / "__init__.py").unlink()
    script = "import sys; sys.path[:] = [p for p in sys.path if 'site-packages' not in p]; "
    script += "import gateway_site.sdk_guard as g; print(g.hidden_sdk_problem())"

    done = start(hidden, "-c", script)

    assert done.stdout.strip() == "The OpenAI Agents SDK is not installed. Run `make install`."


def test_this_repository_has_no_such_file() -> None:
    assert hidden_sdk_problem() is None
    assert not (ROOT / "agents" / "__init__.py").exists()
