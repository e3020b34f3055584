"""What leaves a server's socket, and when."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import uvicorn

from apps.console.http_protocol import HttpProtocol

Send = Callable[[dict[str, Any]], Awaitable[None]]

HEAD = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]}
BODY = {"type": "http.response.body", "body": b"good"}
PATIENCE = 10  # seconds


@asynccontextmanager
async def asked(answer: Callable[[Send], Awaitable[None]]) -> AsyncIterator[asyncio.StreamReader]:
    """A client's reader, whom `answer` serves."""

    async def app(_scope: Any, _receive: Any, send: Send) -> None:
        await answer(send)

    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, http=HttpProtocol, ws="none", lifespan="off", log_config=None))
    serving = asyncio.create_task(server.serve([listener]))
    reader, writer = await asyncio.open_connection(*listener.getsockname())
    try:
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        yield reader
    finally:
        writer.close()
        server.should_exit = True
        await serving


async def test_head_and_body_come_in_one_piece() -> None:
    async def answer(send: Send) -> None:
        await send(HEAD)
        await send(BODY)

    async with asked(answer) as reader:
        piece = await asyncio.wait_for(reader.read(65536), PATIENCE)
    assert piece.startswith(b"HTTP/1.1 200 OK\r\n")
    assert piece.endswith(b"\r\n\r\ngood")


async def test_head_does_not_wait_for_a_body_that_is_not_there() -> None:
    head_was_read = asyncio.Event()

    async def answer(send: Send) -> None:
        await send(HEAD)
        await head_was_read.wait()
        await send(BODY)

    async with asked(answer) as reader:
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
        head_was_read.set()
        body = await asyncio.wait_for(reader.readexactly(4), PATIENCE)
    assert (head[:15], body) == (b"HTTP/1.1 200 OK", b"good")


async def test_answer_that_ends_the_connection_is_sent_before_it_ends() -> None:
    async def answer(send: Send) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": [(b"connection", b"close")]})
        await send({"type": "http.response.body", "body": b""})

    async with asked(answer) as reader:
        everything = await asyncio.wait_for(reader.read(), PATIENCE)
    assert everything.startswith(b"HTTP/1.1 204 No Content\r\n")
