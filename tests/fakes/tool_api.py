"""An HTTP API that tools are pointed at, in the test's own event loop: it remembers what it was asked, and misbehaves
where the path says so."""

import asyncio
import gzip
import json
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

BIG = 50_000_000
DOCUMENT = {"openapi": "3.1.0", "paths": {"/x": {"get": {"operationId": "getX"}}}}


def _packed(encoding: str) -> dict[str, str]:
    return {"Content-Encoding": encoding, "Content-Type": "application/json"}


# What these paths answer, always.
SAID: dict[str, dict[str, Any]] = {
    "items": {"body": b'{"items": [{"title": "one"}, {"title": "two"}]}', "content_type": "application/json"},
    "redirect": {"status": 302, "headers": {"Location": "http://169.254.169.254/secret?token=abc"}},
    "later": {"status": 503, "text": "In an hour", "headers": {"Retry-After": "3600"}},
    "html": {"text": "<p>Hello</p>", "content_type": "text/html"},
    "binary": {"body": bytes(range(256)), "content_type": "image/png"},
    "latin": {"body": "é".encode("latin-1"), "headers": {"Content-Type": "text/plain; charset=latin-1"}},
    "unknown-charset": {"body": "é".encode(), "headers": {"Content-Type": "text/plain; charset=klingon"}},
    "no-type": {"body": b"plain", "headers": {"Content-Type": ""}},
    "empty": {"status": 204},
    "no-json": {"text": "{no", "content_type": "application/json"},
    "gzip": {"body": gzip.compress(b'"packed"'), "headers": _packed("gzip")},
    "deflate": {"body": zlib.compress(b'"packed"'), "headers": _packed("deflate")},
    "brotli": {"body": b"\x0b\x02\x80", "headers": _packed("br")},
    "no-gzip": {"body": b"plain", "headers": _packed("gzip")},
    "document": {"text": json.dumps(DOCUMENT), "content_type": "application/json"},
}


class ToolApi:
    """`seen` are the requests; `active` is how many are being answered; `let_go` ends those of /hang and /held."""

    def __init__(self) -> None:
        self.url = ""
        self.seen: list[dict[str, Any]] = []
        self.active = 0
        self.most_active = 0
        self.written = 0
        self.left = 0  # clients that went before their answer was whole
        self.failures = 0  # how often /flaky still fails
        self.let_go = asyncio.Event()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.seen.append(
            {
                "method": request.method,
                "path": request.raw_path,
                "headers": dict(request.headers),
                "body": body.decode(),
            }
        )
        self.active += 1
        self.most_active = max(self.most_active, self.active)
        try:
            return await self._answer(request)
        finally:
            self.active -= 1

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        what = request.path.split("/")[1]
        if what in SAID:
            return web.Response(**SAID[what])
        answer = {
            "echo": self._echo, "status": self._status, "flaky": self._flaky, "big": self._big, "slow": self._slow,
            "cut": self._cut, "bomb": self._bomb,
        }.get(what, self._held)  # fmt: skip
        return await answer(request)

    async def _echo(self, _: web.Request) -> web.Response:
        return web.json_response(self.seen[-1])

    async def _status(self, request: web.Request) -> web.Response:
        told = f"Told with {request.headers.get('Authorization', 'nothing')}"
        return web.Response(status=int(request.path.split("/")[2]), text=told)

    async def _flaky(self, _: web.Request) -> web.Response:
        self.failures -= 1
        return web.Response(status=503) if self.failures >= 0 else web.json_response("at last")

    async def _held(self, _: web.Request) -> web.Response:
        try:
            await self.let_go.wait()
        except asyncio.CancelledError:
            self.left += 1
            raise
        return web.json_response("let go")

    async def _big(self, request: web.Request) -> web.StreamResponse:
        response = await _begun(request, web.StreamResponse(headers={"Content-Type": "text/plain"}))
        try:
            while self.written < BIG:
                await response.write(b"x" * 65_536)
                self.written += 65_536
        except (ConnectionError, asyncio.CancelledError):
            self.left += 1
            raise
        return response

    async def _bomb(self, _: web.Request) -> web.Response:
        packed = await asyncio.to_thread(gzip.compress, b"0" * 200_000_000)  # 200 kB
        return web.Response(body=packed, headers=_packed("gzip"))

    async def _slow(self, request: web.Request) -> web.StreamResponse:
        response = await _begun(request, web.StreamResponse(headers={"Content-Type": "text/plain"}))
        try:
            while True:
                await response.write(b".")
                await asyncio.sleep(0.02)
        except (ConnectionError, asyncio.CancelledError):
            self.left += 1
            raise

    async def _cut(self, request: web.Request) -> web.StreamResponse:
        response = await _begun(request, web.StreamResponse(headers={"Content-Length": "100"}))
        await response.write(b"half")
        assert request.transport
        request.transport.abort()
        return response


async def _begun(request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
    await response.prepare(request)
    return response


@asynccontextmanager
async def tool_api() -> AsyncIterator[ToolApi]:
    api = ToolApi()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", api.answer)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    api.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield api
    finally:
        api.let_go.set()
        await runner.cleanup()
