"""A real MCP server, for the tests of MCP: over stdio, streamable HTTP or SSE.

It needs nothing of this repository, so that a test can copy it beside an agent. As a script it serves on stdio;
`--transport http` and `--transport sse` serve on loopback and print the URL.
"""

# ruff: noqa: ASYNC110, ASYNC230, ASYNC240  # a server with a handful of callers may look at files

import argparse
import asyncio
import os
import signal
import socket
import time
from pathlib import Path
from typing import Any

import uvicorn
from mcp.server.mcpserver import MCPServer

VERSION = "one"  # a test that copies this file writes another

server = MCPServer("fake")


@server.tool()
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@server.tool()
def pid() -> int:
    """The process that serves."""
    return os.getpid()


@server.tool()
def version() -> str:
    """The version of the script that serves."""
    return VERSION


@server.tool()
def where() -> str:
    """The folder that the server runs in, and the Python that it runs on."""
    return f"{Path.cwd()} {os.environ['PATH'].partition(os.pathsep)[0]}"


@server.tool()
async def linger(path: str) -> str:
    """Wait until the file `path` is there; `path`.started says that the call has begun."""
    Path(f"{path}.started").touch()
    while not Path(path).exists():
        await asyncio.sleep(0.02)
    return f"process {os.getpid()}"


@server.tool()
async def block(seconds: float) -> str:
    """Keep the whole server busy."""
    time.sleep(seconds)  # noqa: ASYNC251
    return "done"


@server.tool()
async def crash(path: str) -> str:
    """Write a line to the file `path`, and die before the call is answered."""
    with Path(path).open("a") as file:
        file.write("called\n")
    os.kill(os.getpid(), signal.SIGKILL)
    return "never"


async def _serve(app: Any, path: str, port: int) -> None:
    with socket.socket(proto=socket.IPPROTO_TCP) as sock:  # the loop sets TCP_NODELAY on these alone
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", port))
        sock.listen()
        print(f"MCP server at http://127.0.0.1:{sock.getsockname()[1]}{path}", flush=True)
        config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=0)
        await uvicorn.Server(config).serve([sock])


def main() -> None:
    parser = argparse.ArgumentParser(description="An MCP server with a few tools.")
    parser.add_argument("--transport", choices=["stdio", "http", "sse"], default="stdio")
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    if options.transport == "stdio":
        server.run()
    elif options.transport == "http":
        asyncio.run(_serve(server.streamable_http_app(), "/mcp", options.port))
    else:
        asyncio.run(_serve(server.sse_app(), "/sse", options.port))


if __name__ == "__main__":
    main()
