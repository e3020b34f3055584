"""The official Node client: its version is pinned in tests/node/package.json."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.harness import GatewayServer

NODE = Path(__file__).resolve().parents[1] / "node"


@pytest.fixture(scope="module")
def installed(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the script and the client, kept in pytest's cache. Skips where it cannot be had."""
    if missing := [name for name in ("node", "npm") if shutil.which(name) is None]:
        pytest.skip(f"{' and '.join(missing)} not installed")
    package = (NODE / "package.json").read_text()
    version = json.loads(package)["dependencies"]["openai"]
    cache = getattr(pytestconfig, "cache", None)  # none with -p no:cacheprovider
    folder: Path = (cache.mkdir("node-client") if cache else tmp_path_factory.mktemp("node-client")) / version
    if not (folder / "node_modules" / "openai").is_dir():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        (folder / "package.json").write_text(package)
        command = ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts"]
        try:
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=90, check=False)
        except subprocess.TimeoutExpired:
            pytest.skip("npm install took longer than 90 seconds")
        if done.returncode:
            shutil.rmtree(folder)
            pytest.skip(f"npm install failed: {done.stderr.strip()[-300:]}")
    shutil.copy(NODE / "chat.mjs", folder)
    return folder


@pytest.fixture(scope="module")
def told(installed: Path, gateway: GatewayServer) -> Any:
    """What the script was told."""
    command = ["node", "chat.mjs", gateway.base_url, gateway.key]
    done = subprocess.run(command, cwd=installed, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_node_client_lists_the_models(told: Any, gateway: GatewayServer) -> None:
    assert told["models"] == [one.id for one in gateway.openai().models.list()]


def test_node_client_chats_whole_and_streamed(told: Any) -> None:
    text = "Hello from Node 👋"
    assert told["whole"] == {"content": text, "finish": "stop", "usage": told["streamed"]["usage"]}
    assert told["streamed"] == {"content": text, "finish": ["stop"], "usage": told["whole"]["usage"]}


def test_node_client_raises_its_own_errors(told: Any) -> None:
    assert told["errors"] == {
        "key": ["AuthenticationError", 401, "invalid_api_key", None],
        "n": ["BadRequestError", 400, "unsupported_parameter", "n"],
        "model": ["NotFoundError", 404, "model_not_found", "model"],
        "limit": ["RateLimitError", 429, "rate_limit_exceeded", None],
    }
    assert told["cut"] == ["APIError", "upstream_cut"]
