"""OAuth client credentials on the requests to an MCP server. Tokens live in memory, and are asked for anew in time.

The provider of `mcp` holds a lock while a request waits for its answer, so that calls would pass one after another:
here it is asked only when there is no good token.
"""

import time
from collections.abc import AsyncGenerator, Mapping
from typing import Any

import anyio
import httpx2
from mcp.client.auth import OAuthFlowError, TokenStorage
from mcp.client.auth.extensions.client_credentials import ClientCredentialsOAuthProvider
from mcp.shared.auth import OAuthClientInformationFull, OAuthToken

from apps.tools.checking import names_who_gets_the_secret
from apps.tools.mcp.failures import ServerDown

_MARGIN = 30.0  # seconds before its end that a token counts as expired
_USUAL_LIFE = 300.0  # seconds, of a token that does not say

Flow = AsyncGenerator[httpx2.Request, httpx2.Response]


def authentication(url: str, credentials: Mapping[str, str]) -> httpx2.Auth | None:
    """For McpServer.oauth; with a `token_url` nothing is discovered, which Entra ID and most others need. Raises
    ServerDown without that and `issuer`, as rows of former versions may be."""
    if not credentials:
        return None
    if not names_who_gets_the_secret(credentials):
        raise ServerDown(
            "Its OAuth names neither a token URL nor an issuer, and the server may not choose who gets the client's "
            "secret. Name one of them in the admin under MCP servers."
        )
    return TokenUrlAuth(credentials) if credentials.get("token_url") else DiscoveringAuth(url, credentials)


class TokenUrlAuth(httpx2.Auth):
    """Tokens from a given URL, RFC 6749 section 4.4."""

    def __init__(self, credentials: Mapping[str, str]) -> None:
        self._url = credentials["token_url"]
        self._client = (credentials["client_id"], credentials["client_secret"])
        self._scope = credentials.get("scope", "")
        self._token = ""
        self._until = 0.0
        self._asking = anyio.Lock()

    async def async_auth_flow(self, request: httpx2.Request) -> Flow:
        for attempt in (1, 2):
            if time.monotonic() >= self._until:
                async with self._asking:
                    if time.monotonic() >= self._until:  # nobody else has got one meanwhile
                        await self._take(await _body((yield self._question())))
            request.headers["Authorization"] = f"Bearer {self._token}"
            response = yield request
            if response.status_code != 401 or attempt == 2:
                return
            self._until = 0.0

    def _question(self) -> httpx2.Request:
        id, secret = self._client
        asked = {"grant_type": "client_credentials", "client_id": id, "client_secret": secret}
        if self._scope:
            asked["scope"] = self._scope
        return httpx2.Request("POST", self._url, data=asked, headers={"Accept": "application/json"})

    async def _take(self, response: httpx2.Response) -> None:
        if response.status_code != 200:
            raise OAuthFlowError(f"the token URL answered {response.status_code}")
        try:
            told: dict[str, Any] = response.json()
            self._token = str(told["access_token"])
            life = float(told.get("expires_in") or _USUAL_LIFE)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise OAuthFlowError("the token URL answered without an access_token") from error
        self._until = time.monotonic() + max(life - _MARGIN, life / 2)


class DiscoveringAuth(ClientCredentialsOAuthProvider):
    """The authorization server is found by what the MCP server says, and must be the `issuer`."""

    def __init__(self, url: str, credentials: Mapping[str, str]) -> None:
        self._configured_scope = credentials.get("scope") or None
        super().__init__(
            url,
            _Memory(),
            credentials["client_id"],
            credentials["client_secret"],
            scope=self._configured_scope,
            issuer=credentials["issuer"],
        )

    async def async_auth_flow(self, request: httpx2.Request) -> Flow:
        if self.context.is_token_valid():
            self._add_auth_header(request)
            response = yield request
            if response.status_code != 401:
                return
        flow = super().async_auth_flow(request)
        try:
            outgoing = await anext(flow)
            while True:
                outgoing = await flow.asend((yield outgoing))
        except StopAsyncIteration:
            return
        finally:
            await flow.aclose()

    async def _perform_authorization(self) -> httpx2.Request:
        if self._configured_scope:  # the flow has put what the server suggests in its place
            self.context.client_metadata.scope = self._configured_scope
        return await super()._perform_authorization()


class _Memory(TokenStorage):
    """The provider keeps tokens itself; nothing outlives the connection."""

    async def get_tokens(self) -> OAuthToken | None:
        return None

    async def set_tokens(self, tokens: OAuthToken) -> None:
        pass

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return None

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        pass


async def _body(response: httpx2.Response) -> httpx2.Response:
    await response.aread()
    return response
