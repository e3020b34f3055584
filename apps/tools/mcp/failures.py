"""What went wrong with an MCP server, as one sentence that says what to do."""

import shlex
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from django.conf import settings

from apps.core.secrets import SecretUnreadable
from apps.tools.mcp.server import Server
from apps.tools.models import Transport
from apps.tools.redaction import redacted

_LONGEST: Final = 300  # characters of another program's own words


class ServerDown(Exception):
    """The server cannot be used now. The message is a sentence that says why."""


class ConnectionLost(Exception):
    """It ended from the other side."""


@dataclass(slots=True)
class Observed:
    """What was seen of one connection beside its messages, for the sentence about its end."""

    status: int = 0  # of the last HTTP answer
    forgot_session: bool = False  # 404 to a request with a session id says so
    said: str = ""  # the last line of a process's stderr


def reason(error: BaseException, server: Server, observed: Observed) -> str:
    """A sentence without secrets."""
    import httpx2
    from mcp import MCPError
    from mcp.client.auth import OAuthFlowError

    patience = f"{settings.GATEWAY_MCP_CONNECT_TIMEOUT:g} s"
    match first(error):
        case ServerDown() | SecretUnreadable() as down:
            text = str(down)
        case ConnectionLost():
            text = _of_loss(server, observed)
        case TimeoutError() | httpx2.TimeoutException():
            text = f"It did not answer within {patience}. Is it overloaded, or no MCP server?"
        case OAuthFlowError() as refused:
            text = f"OAuth failed: {_cut(str(refused))}. Check the client's id, secret, and token URL or issuer."
        case httpx2.HTTPError() | httpx2.InvalidURL() as failed:
            text = _of_http(failed, server)
        case OSError() as failed if server.transport == Transport.STDIO:
            text = f"The command '{shlex.join(server.command)}' cannot be started: {failed.strerror or failed}."
        case MCPError() as refused:
            text = _of_refusal(refused.message, server, observed)
        case other:
            text = f"{type(other).__name__}: {_cut(str(other))}"
    return redacted(text, server.secrets)


def _of_http(error: Exception, server: Server) -> str:
    import httpx2

    match error:
        case httpx2.HTTPStatusError():
            return _of_status(error.response.status_code, server)
        case httpx2.ConnectError():
            return f"{_shown(server)} cannot be reached ({_cut(str(error))}). Is the server started, and the URL right?"
        case httpx2.InvalidURL() | httpx2.UnsupportedProtocol():
            return f"{_shown(server)} is no usable URL. It should look like https://mcp.example.com/mcp."
        case _:
            return f"{_shown(server)} broke off ({type(error).__name__}). Look into that server's log."


def _of_loss(server: Server, observed: Observed) -> str:
    if server.transport == Transport.STDIO:
        said = f" Its last words: {_cut(observed.said)}" if observed.said else ""
        return f"The process ended, or hung.{said}"
    return f"{_shown(server)} closed the connection, or answers no more. Look into that server's log."


def _of_refusal(message: str, server: Server, observed: Observed) -> str:
    if server.transport == Transport.STDIO:
        return f"The process ended before it answered, or speaks no MCP. It said: {_cut(observed.said or 'nothing')}"
    if observed.status >= 400:
        return _of_status(observed.status, server)
    return f"It refused: {_cut(message)}"


def _of_status(status: int, server: Server) -> str:
    carries = bool(server.oauth) or any(name.lower() == "authorization" for name in server.headers)
    remedies = {
        401: "Its token is wrong or expired" if carries else "It wants a token: add an Authorization header",
        403: "Its token may not do this",
        404: "Check the URL: MCP servers often live at /mcp",
        405: "This URL takes no MCP messages: check its path, and the transport",
        406: "This URL speaks another transport: try the other one",
        429: "It is asked too often",
        503: "It is not ready, or not deployed",
    }
    return f"{_shown(server)} answered {status}. {remedies.get(status, 'Look into the log of that server')}."


def _shown(server: Server) -> str:
    """Its URL without what may be a credential."""
    try:
        parts = urlsplit(server.url)
    except ValueError:
        return "Its URL"
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def first(error: BaseException) -> BaseException:
    """The leaf of a task group's error that says most: not that other tasks were cancelled with it."""
    while isinstance(error, BaseExceptionGroup):
        error = next((one for one in error.exceptions if isinstance(one, Exception)), error.exceptions[0])
    return error


def _cut(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
