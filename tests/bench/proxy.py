"""The floor of what is passed through: a bare ASGI app that posts a request on with aiohttp and hands the answer back.

No key, no check, no record, no framework: what is left when a gateway does nothing. `python -m tests.bench.proxy URL`.
"""

import gc
import socket
import sys
from typing import Any

import aiohttp
import uvicorn

UPSTREAM = sys.argv[1]
_session: aiohttp.ClientSession | None = None


async def app(scope: Any, receive: Any, send: Any) -> None:
    global _session  # noqa: PLW0603  # made in the loop that serves
    if _session is None:
        _session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None), auto_decompress=False)
    body = b""
    more = True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    headers = {"Content-Type": "application/json", "Authorization": "Bearer bench"}
    async with _session.post(f"{UPSTREAM}/chat/completions", data=body, headers=headers) as answer:
        kind = answer.headers["Content-Type"].encode()
        if kind.startswith(b"text/event-stream"):
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
            while part := await answer.content.readany():
                await send({"type": "http.response.body", "body": part, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
            return
        content = await answer.read()
        head = [(b"content-type", kind), (b"content-length", str(len(content)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await send({"type": "http.response.body", "body": content})


def main() -> None:
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    config = uvicorn.Config(
        app, loop="uvloop", http="httptools", ws="none", lifespan="off", log_config=None, access_log=False,
        server_header=False,
    )  # fmt: skip
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)  # as the gateway's worker
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    uvicorn.Server(config).run([listener])


if __name__ == "__main__":
    main()
