"""Microsoft's mcp-gateway as its clients see it: a contract, from its README, its openapi/mcp-gateway.openapi.json and
its controllers (AdapterReverseProxyController, ManagementController, AdapterSessionRoutingHandler; August 2026).

What counts: a bearer token on everything; `GET /adapters` lists the adapters as metadata; `/adapters/{name}/mcp` and
`/mcp`, the tool router, take POST alone (405 else), and pass it to a pod. A request without `mcp-session-id` goes to a
pod by chance (here: by turns), one with it to the pod that began the session, and to nobody else's; an id that is not
known fails with 500, as its unhandled ArgumentException does; 404 is an adapter that is not there, 503 one whose pods
are not. Of a pod's headers only few pass, `mcp-session-id` among them.

The pods are made with the `mcp` package: each has a session manager, and so forgets what it did not begin.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import aiohttp
import uvicorn
from aiohttp import web
from mcp.server.mcpserver import MCPServer

PASSED_ON = {"content-type", "cache-control", "date", "mcp-session-id"}
METADATA = {
    "imageName": "mcp-example", "imageVersion": "1.0.0", "environmentVariables": {}, "replicaCount": 2,
    "description": "test", "useWorkloadIdentity": False, "requiredRoles": [], "createdBy": "dev",
    "createdAt": "2026-08-01T00:00:00+00:00", "lastUpdatedAt": "2026-08-01T00:00:00+00:00",
}  # fmt: skip


@dataclass
class Gateway:
    """What a test changes while it runs, and sees."""

    url: str = ""
    token: str = "token"
    pods: dict[str, list[str]] = field(default_factory=dict)  # addresses by adapter; "" is the router
    sessions: dict[tuple[str, str], str] = field(default_factory=dict)  # adapter and session id to the pod's address
    headers: list[dict[str, str]] = field(default_factory=list)  # of every request for a pod


def pod(name: str, number: int) -> MCPServer:
    server = MCPServer(f"{name}-{number}")

    @server.tool(name=f"{name or 'weather'}_where")
    def where() -> str:
        """The pod that answers."""
        return f"{name or 'router'}-{number}"

    return server


@asynccontextmanager
async def serving(*adapters: str) -> AsyncIterator[Gateway]:
    """A gateway with two pods for the router and for each adapter; those named later have none until they are given."""
    async with AsyncExitStack() as stack:
        gateway = Gateway()
        for name in ("", *adapters):
            gateway.pods[name] = [await stack.enter_async_context(_pod(name, number)) for number in (0, 1)]
        http = await stack.enter_async_context(aiohttp.ClientSession(auto_decompress=False))
        runner = web.AppRunner(_app(gateway, http))
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        gateway.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield gateway


@asynccontextmanager
async def _pod(name: str, number: int) -> AsyncIterator[str]:
    app = pod(name, number).streamable_http_app()
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", timeout_graceful_shutdown=0))
    task = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110  # uvicorn has no event for it
        await asyncio.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    await task


def _app(gateway: Gateway, http: aiohttp.ClientSession) -> web.Application:
    turns = count()

    @web.middleware
    async def authorised(request: web.Request, handler: Any) -> web.StreamResponse:
        if request.headers.get("Authorization") != f"Bearer {gateway.token}":
            return web.Response(status=401)
        answer: web.StreamResponse = await handler(request)
        return answer

    async def adapters(_request: web.Request) -> web.Response:
        return web.json_response([{"id": name, "name": name, **METADATA} for name in gateway.pods if name])

    async def forward(request: web.Request) -> web.StreamResponse:
        name = request.match_info.get("name", "")
        if name not in gateway.pods:
            return web.Response(status=404)
        gateway.headers.append({key.lower(): value for key, value in request.headers.items()})
        session = request.headers.get("mcp-session-id", "")
        if session and (name, session) not in gateway.sessions:
            return web.Response(status=500)
        if not gateway.pods[name]:
            return web.Response(status=503)
        pods = gateway.pods[name]
        target = gateway.sessions[name, session] if session else pods[next(turns) % len(pods)]
        kept = {key: value for key, value in request.headers.items() if key.lower() not in {"authorization", "host"}}
        async with http.post(f"{target}/mcp", data=await request.read(), headers=kept) as answer:
            if not session and (begun := answer.headers.get("mcp-session-id")):
                gateway.sessions[name, begun] = target
            passed = {key: value for key, value in answer.headers.items() if key.lower() in PASSED_ON}
            response = web.StreamResponse(status=answer.status, headers=passed)
            await response.prepare(request)
            async for chunk in answer.content.iter_any():
                await response.write(chunk)
            return response

    app = web.Application(middlewares=[authorised])
    app.router.add_get("/adapters", adapters)
    app.router.add_post("/adapters/{name}/mcp", forward)
    app.router.add_post("/mcp", forward)
    return app
