"""MCP servers beside a gateway that serves: started with it, following the configuration, gone with it."""

import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.harness import GatewayServer, Template, eventually
from tests.harness.process_table import children, is_alive
from tests.tools.mcp_parts import BARE

COMMAND = [sys.executable, str(BARE)]
NAMES = ["box_babble", "box_crash", "box_environment", "box_linger", "box_pid"]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, template: Template) -> Iterator[GatewayServer]:
    folder = tmp_path_factory.mktemp("mcp-served")
    (folder / "agents").mkdir()
    with GatewayServer(folder / "data", agents=folder / "agents", template=template) as server:
        yield server


@pytest.fixture
def box(gateway: GatewayServer) -> Iterator[int]:
    """A stdio server in the gateway's configuration, connected; its row's id."""
    pk = gateway.operator.make("tools.McpServer", slug="box", transport="stdio", command=COMMAND)
    eventually(lambda: row(gateway)["state"], "connected", within=15)
    yield pk
    gateway.operator.remove("tools.McpServer", pk)
    eventually(lambda: processes(gateway), set(), within=15)


def row(gateway: GatewayServer) -> dict[str, Any]:
    (found,) = gateway.operator.rows("tools.McpServer", slug="box")
    return dict(found)


def processes(gateway: GatewayServer) -> set[int]:
    """Of the gateway's MCP servers."""
    return children(gateway.pid, BARE.name)


def another_process(gateway: GatewayServer, before: int) -> int:
    """Once it is the only one."""
    eventually(lambda: (len(processes(gateway)), before in processes(gateway)), (1, False), within=15)
    (after,) = processes(gateway)
    return after


def test_added_server_is_connected_and_its_tools_are_stored(gateway: GatewayServer, box: int) -> None:
    eventually(lambda: [one["name"] for one in gateway.operator.rows("tools.Tool")], NAMES)
    assert len(processes(gateway)) == 1
    metrics = gateway.with_key("GET", "/metrics/prometheus").body.decode()
    assert 'gateway_mcp_server_state{server="box",state="connected"} 1.0' in metrics


def test_server_follows_the_configuration(gateway: GatewayServer, box: int) -> None:
    (first,) = processes(gateway)

    gateway.operator.change("tools.McpServer", box, timeout=30)
    second = another_process(gateway, first)
    gateway.operator.change("tools.McpServer", box, renewed_at="2026-01-01T00:00:00Z")
    another_process(gateway, second)
    gateway.operator.change("tools.McpServer", box, enabled=False)
    eventually(lambda: processes(gateway), set(), within=15)


def test_killed_server_is_replaced_and_a_broken_one_is_shown(gateway: GatewayServer, box: int) -> None:
    (first,) = processes(gateway)
    os.kill(first, signal.SIGKILL)
    another_process(gateway, first)
    eventually(lambda: row(gateway)["state"], "connected")

    gateway.operator.change("tools.McpServer", box, command=["no-such-command"])

    reason = "The command 'no-such-command' cannot be started: No such file or directory."
    eventually(lambda: (row(gateway)["state"], row(gateway)["reason"]), ("down", reason))
    assert [one["gone_at"] for one in gateway.operator.rows("tools.Tool")] == [None] * 5


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_gateway_that_ends_leaves_no_process_behind(gateway: GatewayServer, box: int, how: signal.Signals) -> None:
    (before,) = processes(gateway)
    try:
        gateway.stop(how)
        eventually(lambda: is_alive(before), False, within=10)
        assert row(gateway)["state"] == "connected"  # nobody has seen it down
    finally:
        gateway.start()
    another_process(gateway, before)
