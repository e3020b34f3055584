"""The official Node client: its version is pinned in tests/node/package.json."""

import json
import subprocess
from typing import Any

import pytest

from tests.harness import GatewayServer
from tests.node.packages import CLIENT, needed


@pytest.fixture(scope="module")
def told(gateway: GatewayServer) -> Any:
    """What the script was told."""
    folder = needed(CLIENT).parent
    command = ["node", "chat.mjs", gateway.base_url, gateway.key]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
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
