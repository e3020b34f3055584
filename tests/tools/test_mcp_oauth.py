"""OAuth client credentials, against an MCP server that wants tokens and a server that gives them."""

import asyncio
import base64
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest
from aiohttp import web
from mcp.client.auth import OAuthFlowError

from apps.tools.mcp.failures import Observed, ServerDown, reason
from apps.tools.mcp.transports import http_client
from tests.tools.mcp_parts import server

CLIENT = {"client_id": "gateway", "client_secret": "s3cret"}


@dataclass
class Issuer:
    """Gives tokens `t1`, `t2`, …, of which the newest is good."""

    url: str = ""
    life: float = 3600
    status: int = 200
    asked: list[dict[str, str]] = field(default_factory=list)
    waiting: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def good(self) -> str:
        return f"t{len(self.asked)}"


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    one = Issuer()

    async def token(request: web.Request) -> web.Response:
        form: Any = await request.post()
        kind, _, basic = request.headers.get("Authorization", "").partition(" ")
        by_header = base64.b64decode(basic).decode().split(":") if kind == "Basic" else []
        given = {**form, **dict(zip(("client_id", "client_secret"), by_header, strict=False))}
        one.asked.append({name: str(value) for name, value in given.items()})
        if one.status != 200:
            return web.json_response({"error": "invalid_client", "s3cret": "s3cret"}, status=one.status)
        return web.json_response({"access_token": one.good, "token_type": "Bearer", "expires_in": one.life})

    async def resource(request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != f"Bearer {one.good}" or not one.asked:
            return web.Response(status=401, headers={"WWW-Authenticate": "Bearer"})
        if "wait" in request.query:
            await one.waiting.wait()
        return web.Response(text="in")

    async def about_resource(_request: web.Request) -> web.Response:
        return web.json_response({"resource": f"{one.url}/mcp", "authorization_servers": [one.url]})

    async def about_issuer(_request: web.Request) -> web.Response:
        of = {"authorization_endpoint": f"{one.url}/authorize", "token_endpoint": f"{one.url}/token"}
        return web.json_response({"issuer": one.url, "response_types_supported": ["code"], **of})

    app = web.Application()
    app.router.add_post("/token", token)
    app.router.add_get("/mcp", resource)
    app.router.add_get("/.well-known/oauth-protected-resource/mcp", about_resource)
    app.router.add_get("/.well-known/oauth-authorization-server", about_issuer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    one.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield one
    await runner.cleanup()


@pytest.fixture(params=["token_url", "discovery"])
async def client(request: pytest.FixtureRequest, issuer: Issuer) -> AsyncIterator[httpx2.AsyncClient]:
    where = {"token_url": f"{issuer.url}/token"} if request.param == "token_url" else {"issuer": issuer.url}
    oauth = {**CLIENT, **where, "scope": "tools"}
    async with http_client(server(url=f"{issuer.url}/mcp", oauth=oauth), Observed()) as made:
        yield made


async def test_token_is_had_once_and_sent(client: httpx2.AsyncClient, issuer: Issuer) -> None:
    for _ in range(3):
        assert (await client.get(f"{issuer.url}/mcp")).text == "in"
    (asked,) = issuer.asked
    wanted = {"grant_type": "client_credentials", "scope": "tools", **CLIENT}
    assert {name: asked.get(name) for name in wanted} == wanted


async def test_revoked_token_is_replaced(client: httpx2.AsyncClient, issuer: Issuer) -> None:
    await client.get(f"{issuer.url}/mcp")
    issuer.asked.append({})  # somebody else got one: ours is good no more
    assert (await client.get(f"{issuer.url}/mcp")).text == "in"
    assert len(issuer.asked) == 3


async def test_requests_with_a_good_token_do_not_wait_for_each_other(
    client: httpx2.AsyncClient, issuer: Issuer
) -> None:
    await client.get(f"{issuer.url}/mcp")
    slow = asyncio.create_task(client.get(f"{issuer.url}/mcp?wait"))
    await asyncio.sleep(0)
    assert (await client.get(f"{issuer.url}/mcp")).text == "in"
    assert not slow.done()
    issuer.waiting.set()
    assert (await slow).text == "in"


async def test_requests_at_once_ask_for_one_token(issuer: Issuer) -> None:
    oauth = {**CLIENT, "token_url": f"{issuer.url}/token"}
    async with http_client(server(url=f"{issuer.url}/mcp", oauth=oauth), Observed()) as client:
        answers = await asyncio.gather(*(client.get(f"{issuer.url}/mcp") for _ in range(10)))
    assert [one.text for one in answers] == ["in"] * 10
    assert len(issuer.asked) == 1


async def test_refused_client_is_told_without_its_secret(issuer: Issuer) -> None:
    issuer.status = 401
    value = server(url=f"{issuer.url}/mcp", oauth={**CLIENT, "token_url": f"{issuer.url}/token"})
    async with http_client(value, Observed()) as client:
        with pytest.raises(Exception, match="the token URL answered 401") as caught:
            await client.get(value.url)
    assert reason(caught.value, value, Observed()) == (
        "OAuth failed: the token URL answered 401. Check the client's id, secret, and token URL or issuer."
    )


async def test_secret_goes_to_no_authorization_server_but_the_issuer(issuer: Issuer) -> None:
    value = server(url=f"{issuer.url}/mcp", oauth={**CLIENT, "issuer": "https://login.example.com"})
    async with http_client(value, Observed()) as client:
        with pytest.raises(OAuthFlowError, match="issuer"):
            await client.get(value.url)
    assert issuer.asked == []


def test_without_token_url_and_issuer_nobody_is_asked() -> None:
    value = server(url="http://127.0.0.1:9/mcp", oauth={**CLIENT, "scope": "tools"})
    with pytest.raises(ServerDown, match="names neither a token URL nor an issuer"):
        http_client(value, Observed())
