"""What this process's connections to MCP servers have been through, and how many calls of tools wait.

Calls are counted where every tool is invoked.
"""

from collections.abc import Iterator

from prometheus_client import Counter
from prometheus_client.core import GaugeMetricFamily, Metric

from apps.observability.metrics import REGISTRY, FromMemory
from apps.tools import lanes

RECONNECTS = Counter(
    "gateway_mcp_reconnects_total",
    "Attempts to connect to an MCP server again, after it was lost or could not be had.",
    ["server"],
    registry=REGISTRY,
)


class ConnectionsCollector(FromMemory):
    """Read from memory when it is asked for."""

    def collect(self) -> Iterator[Metric]:
        from apps.tools.mcp import pool

        state = GaugeMetricFamily(
            "gateway_mcp_server_state",
            "For how many workers the connection to an MCP server is in a state: connecting, connected or down.",
            labels=["server", "state"],
        )
        for server, standing in pool.standings():
            state.add_metric([server, standing], 1)
        yield state
        yield GaugeMetricFamily(
            "gateway_tool_calls_waiting",
            "Calls of the gateway's tools that wait until another call of the same tool has ended.",
            value=lanes.waiting(),
        )


REGISTRY.register(ConnectionsCollector())
