"""A real MCP server whose tools are awkward: they raise, return too much or something odd, and the list changes.

As a script it serves on stdio; `--http` serves streamable HTTP on loopback and prints the URL.
"""

# ruff: noqa: ASYNC110, ASYNC240  # a server with a handful of callers may look at files

import argparse
import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import uvicorn
from mcp.server.mcpserver import Context, Image, MCPServer
from mcp_types import EmbeddedResource, ResourceLink, TextResourceContents, ToolAnnotations

server = MCPServer("moods")


@server.tool()
def fail(text: str) -> str:
    """Raise an exception."""
    raise ValueError(text)


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def repeat(text: str, times: int) -> str:
    """The text so many times."""
    return text * times


@server.tool(name="naïve name / with.signs", description="Ünïcödé 🌍")
def odd(text: str) -> str:
    return f"«{text}» 👋"


@server.tool(structured_output=False)
def picture() -> Any:
    """A picture, a link and a resource."""
    text = TextResourceContents(uri="note://1", mime_type="text/plain", text="the note")
    return [
        Image(data=b"123456", format="png"),
        ResourceLink(uri="file:///a", name="a"),
        EmbeddedResource(resource=text),
    ]


@server.tool()
async def grow(name: str, ctx: Context) -> str:
    """Add a tool, and give notice of it."""
    server.add_tool(lambda: name, name=name, description=f"Says {name}.")
    await ctx.session.send_tool_list_changed()
    return "grown"


@server.tool()
async def shrink(name: str, ctx: Context) -> str:
    """Remove a tool, and give notice of it."""
    server.remove_tool(name)
    await ctx.session.send_tool_list_changed()
    return "shrunk"


@server.tool()
async def hold(path: str) -> str:
    """Wait until the call is cancelled, of which the file `path`.cancelled tells; `path`.started says that it runs."""
    Path(f"{path}.started").touch()
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        Path(f"{path}.cancelled").touch()
        raise
    return "never"


@server.tool()
def environment(name: str) -> str:
    """A variable, and the folder that the process runs in."""
    return f"{os.environ.get(name)} {Path.cwd()}"


@server.tool()
def babble(lines: int) -> str:
    """Write so many lines to stderr."""
    for number in range(lines):
        print(f"line {number}", file=sys.stderr)
    return "said"


async def serve(app: Any, port: int) -> None:
    config = uvicorn.Config(app, port=port, log_level="warning", timeout_graceful_shutdown=0)
    running = uvicorn.Server(config)
    task = asyncio.create_task(running.serve())
    while not running.started:
        await asyncio.sleep(0.01)
    print(f"MCP server at http://127.0.0.1:{running.servers[0].sockets[0].getsockname()[1]}/mcp", flush=True)
    await task


def main() -> None:
    parser = argparse.ArgumentParser(description="An MCP server with awkward tools.")
    parser.add_argument("--http", action="store_true")
    parser.add_argument("--json", action="store_true", help="answer with JSON instead of events")
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    if options.http:
        asyncio.run(serve(server.streamable_http_app(json_response=options.json), options.port))
    else:
        server.run()


if __name__ == "__main__":
    main()
