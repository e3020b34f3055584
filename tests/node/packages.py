"""The Node packages that tests use, pinned in the package.json beside each; `make node` installs them.

Run as a script it installs all of them, or says why it cannot and exits with 1.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
CLIENT, MCP = HERE, HERE / "mcp"
_PATIENCE = 180  # seconds for an installation


class NotInstalled(Exception):
    """The message says why, and what to do."""


def install(folder: Path) -> Path:
    """Its node_modules, with the versions that its package.json names. Raises NotInstalled."""
    if missing := [name for name in ("node", "npm") if shutil.which(name) is None]:
        raise NotInstalled(f"{' and '.join(missing)} not installed: `make node` does, on Debian, or install Node 20.")
    wanted = json.loads((folder / "package.json").read_text())["dependencies"]
    modules = folder / "node_modules"
    if all(_version(modules / name) == version for name, version in wanted.items()):
        return modules
    command = ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        raise NotInstalled(f"npm install took longer than {_PATIENCE} seconds. Try `make node` again.") from None
    if done.returncode:
        raise NotInstalled(f"npm install failed in {folder}: {done.stderr.strip()[-300:]}")
    return modules


def needed(folder: Path) -> Path:
    """The same for a test: it is left out where they cannot be had, and fails in CI, where nobody would notice."""
    try:
        return install(folder)
    except NotInstalled as error:
        if os.environ.get("CI", "").lower() in {"1", "true", "yes"}:
            pytest.fail(str(error))
        pytest.skip(str(error))


def _version(package: Path) -> str:
    try:
        version: str = json.loads((package / "package.json").read_text())["version"]
    except (OSError, ValueError, KeyError):
        return ""
    return version


if __name__ == "__main__":
    for one in (CLIENT, MCP):
        try:
            print(install(one))
        except NotInstalled as problem:
            print(problem, file=sys.stderr)
            sys.exit(1)
