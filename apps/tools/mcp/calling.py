"""A call of a tool of an MCP server, and what the model is told of its result."""

import asyncio
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import structlog

from apps.tools.mcp import pool
from apps.tools.mcp.connection import Connection
from apps.tools.mcp.failures import ServerDown
from apps.tools.redaction import redacted
from apps.tools.tool import CallFailed, ToolOutput

if TYPE_CHECKING:
    from mcp_types import CallToolResult

# What a server says to a request of a session that it does not know. The specification leaves the code open; these are
# what servers made with the Python and the TypeScript SDK say.
_NO_SESSION = (-32600, -32001)
_UNCERTAIN = "It may or may not have done its work."

log = structlog.get_logger(__name__)


async def call(server: str, remote_name: str, arguments: dict[str, Any], *, timeout: float) -> ToolOutput:  # noqa: ASYNC109
    """Within `timeout` seconds, and within the server's own. Raises CallFailed, and CancelledError, of which the server
    is told. A call that may have been executed is not repeated here."""
    try:
        connection = pool.current().connection(server)
        timeout = min(timeout, connection.server.timeout)
        async with asyncio.timeout(timeout):
            output = await _called(connection, remote_name, arguments)
        return replace(output, text=redacted(output.text, connection.server.secrets))
    except ServerDown as down:
        reason = f"its server '{server}' cannot be used. {down}"
        raise CallFailed(reason, outcome="unreachable", may_retry=True) from down
    except TimeoutError as error:
        connection.look()
        reason = f"its server did not answer within {timeout:g} s. {_UNCERTAIN}"
        raise CallFailed(reason, outcome="timeout") from error


class _NotSent(Exception):
    """The server refused the session, before it looked at the call."""


async def _called(connection: Connection, remote_name: str, arguments: dict[str, Any]) -> ToolOutput:
    """Raises ServerDown when nothing was sent, and CallFailed."""
    try:
        return await _sent(connection, remote_name, arguments)
    except (ServerDown, _NotSent) as error:
        # Its configuration has changed meanwhile, or the server was restarted since the last call.
        successor = pool.current().connection(connection.server.slug)
        if successor is connection and isinstance(error, ServerDown):
            raise
    try:
        return await _sent(successor, remote_name, arguments)
    except _NotSent:
        raise ServerDown("It forgets its sessions at once. Look into its log.") from None


async def _sent(connection: Connection, remote_name: str, arguments: dict[str, Any]) -> ToolOutput:
    from mcp import MCPError

    async with connection.session() as client:
        try:
            return told(await client.call_tool(remote_name, arguments))
        except MCPError as error:
            if error.code in _NO_SESSION and connection.has_lost(client):
                raise _NotSent from error
            return _of_error(error.code, error.message, connection)
        except Exception as error:  # noqa: BLE001  # a result that is none; the model shall go on
            told_of = redacted(repr(error), connection.server.secrets)
            log.warning("mcp_call_failed", server=connection.server.slug, tool=remote_name, error=told_of)
            return ToolOutput(f"The tool '{remote_name}' gave no usable result: {error}", is_error=True)


def _of_error(code: int, message: str, connection: Connection) -> ToolOutput:
    """Raises CallFailed when the connection is gone."""
    from mcp_types import CONNECTION_CLOSED, INTERNAL_ERROR, INVALID_REQUEST

    if code in (CONNECTION_CLOSED, INTERNAL_ERROR, INVALID_REQUEST):
        connection.look()  # an HTTP error, which may be the end of the session, is told like this
    if code == CONNECTION_CLOSED:
        reason = f"the connection to its server '{connection.server.slug}' broke while it ran. {_UNCERTAIN}"
        raise CallFailed(reason, outcome="unreachable", may_retry=True)
    return ToolOutput(f"The tool's server refused the call: {message}", is_error=True)


def told(result: "CallToolResult") -> ToolOutput:
    """The text of a result; its structured content where it has no text."""
    parts = [part for part in map(_part, result.content) if part]
    if not parts and result.structured_content is not None:
        parts = [json.dumps(result.structured_content, ensure_ascii=False)]
    return ToolOutput("\n".join(parts), is_error=result.is_error)


def _part(content: Any) -> str:
    match content.type:
        case "text":
            return str(content.text)
        case "image" | "audio":
            return f"[{content.type}: {content.mime_type}, {_size(content.data)}]"
        case "resource_link":
            return f"[resource {content.name}: {content.uri}]"
        case "resource" if hasattr(content.resource, "text"):
            return str(content.resource.text)
        case "resource":
            return f"[resource {content.resource.uri}: {content.resource.mime_type}, {_size(content.resource.blob)}]"
        case other:
            return f"[{other}]"


def _size(base64: str) -> str:
    return f"{len(base64) * 3 // 4:,} bytes"
