"""What many reloads of one agent leave in a server process: nothing, its MCP servers and their tasks included.

A reload takes a quarter of a second from the save to the first answer, so that 500 do not fit into a test; see
docs/performance.md for them.
"""

import json
from collections.abc import Callable
from typing import Any

from tests.conftest import write_source
from tests.harness import GatewayServer, eventually
from tests.harness.asking import ask_whole
from tests.v1.test_mcp import STDIO, call, returned, server_processes, version_of

WARM = 20  # reloads until caches and pools have their size
RELOADS = 60
PASSING = 5  # of anything, which happen to be there at a moment
MOST_GROWTH = 3 * 1024  # KiB of resident memory between the two; an agent that stayed would be about 40 a reload

# Written by hand, for the SDK's own server takes longer to start than all the rest of a reload.
SERVER = """
import json, sys

results = {
    "initialize": {
        "protocolVersion": "2025-06-18",
        "capabilities": {"tools": {}},
        "serverInfo": {"name": "own", "version": "1"},
    },
    "tools/list": {"tools": [{"name": "version", "inputSchema": {"type": "object", "properties": {}}}]},
    "tools/call": {"content": [{"type": "text", "text": "VERSION"}]},
}
for line in sys.stdin:
    asked = json.loads(line)
    if "id" in asked:
        result = results.get(asked["method"], {})
        print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": result}), flush=True)
"""
CENSUS = '''
import asyncio, gc, json, logging, os, sys, threading
from agents import Agent, function_tool


@function_tool
async def census() -> str:
    """Count what lives in this process."""
    gc.collect()
    with open("/proc/self/status") as status:
        resident = next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))
    kinds = [type(one).__name__ for one in gc.get_objects()]
    counts = {
        "modules": len(sys.modules),
        "loggers": len(logging.getLogger().manager.loggerDict),
        "tasks": len(asyncio.all_tasks()),
        "threads": threading.active_count(),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "servers": kinds.count("MCPServerStdio"),
        "sessions": kinds.count("ClientSession"),
    }
    return json.dumps({"counts": counts, "resident": resident})


agent = Agent(name="Census", tools=[census])
'''


def census(gateway: GatewayServer) -> dict[str, Any]:
    told = returned(ask_whole(gateway.openai(), "default/census", call("census")).content, "census")
    counted: dict[str, Any] = json.loads(told)
    return counted


def reload(gateway: GatewayServer, number: int) -> None:
    write_source(gateway.agents / "Own", SERVER.replace("VERSION", f"v{number}"), name="server.py")
    eventually(lambda: version_of(gateway, "default/own"), f"v{number}", within=20)


def test_many_reloads_leave_nothing_behind(start_gateway: Callable[..., GatewayServer]) -> None:
    source = STDIO.format(name="Own", command="python", args=["-S", "server.py"], options="")
    gateway = start_gateway(
        {"Own": f"import logging\n{source}\nlog = logging.getLogger(__name__)\n", "Census": CENSUS},
        GATEWAY_MCP_CONNECT_TIMEOUT="60",
    )
    for number in range(WARM):
        reload(gateway, number)
    before = census(gateway)

    for number in range(WARM, RELOADS):
        reload(gateway, number)

    def grown() -> dict[str, int]:
        """What there is more of: a leak adds one for every reload, connections and threads come and go."""
        return {name: n for name, n in census(gateway)["counts"].items() if n > before["counts"][name] + PASSING}

    eventually(grown, {}, within=20)
    assert len(server_processes(gateway)) == 1
    assert census(gateway)["resident"] - before["resident"] < MOST_GROWTH
