"""What is said in a session with an MCP server beside calls: its beginning, and the list of tools."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

from apps.tools.mcp.failures import first

if TYPE_CHECKING:
    from mcp.client import Client

_MOST_PAGES, _MOST_TOOLS = 100, 2000  # of a list


class Refused(Exception):
    """The server answered, and does not speak the protocol that was asked for."""


@asynccontextmanager
async def entered(client: "Client") -> AsyncIterator["Client"]:
    """What keeps it from connecting in its mode is told apart from what ends it later: Refused."""
    from mcp import MCPError
    from mcp_types import METHOD_NOT_FOUND, UNSUPPORTED_PROTOCOL_VERSION

    async with AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(client)
        except Exception as error:
            refusal = first(error)
            if isinstance(refusal, MCPError) and refusal.code in (UNSUPPORTED_PROTOCOL_VERSION, METHOD_NOT_FOUND):
                raise Refused from error
            raise
        yield client


async def listed_tools(client: "Client") -> list[Any]:
    """All pages of the server's list, as mcp_types.Tool, as far as is sane; none of a server that has no tools. Raises
    MCPError."""
    tools: list[Any] = []
    cursor = None
    if client.server_capabilities.tools is None:
        return tools
    for _ in range(_MOST_PAGES):
        page = await client.list_tools(cursor=cursor)
        tools += page.tools
        cursor = page.next_cursor
        if not cursor or len(tools) >= _MOST_TOOLS:
            break
    return tools[:_MOST_TOOLS]
