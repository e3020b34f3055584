"""The load: a process that sends requests in a closed loop over connections it keeps, and times them.

It takes one order a line on stdin and answers with one line of JSON. It reads the server's CPU clock itself, after
connecting and after the last answer, so that nothing else is counted. A raw protocol, because on two cores every
microsecond of the client is missing to the server.
"""

import asyncio
import json
import sys
from itertools import pairwise
from time import perf_counter
from typing import Any

import uvloop

from tests.bench.clock import batch, cpu_seconds, percentile, resident_mb

_PATIENCE = 60.0  # seconds for one answer
_SETTLE = 0.3  # seconds in which the server writes what it writes behind its answers; that counts as well


class Connection(asyncio.Protocol):
    """One keep-alive connection with one request under way."""

    def __init__(self) -> None:
        self._received = bytearray()
        self._whole = -1  # bytes of the answer, once known; 0 when chunked
        self._answer: asyncio.Future[bytes] | None = None
        self.first_byte = 0.0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        if self._answer and not self._answer.done():
            self._answer.set_exception(error or ConnectionError("the server closed the connection"))

    def data_received(self, data: bytes) -> None:
        if not self._received:
            self.first_byte = perf_counter()
        self._received += data
        if self._whole < 0:
            self._read_head()
        chunked_end = self._whole == 0 and self._received.endswith(b"\r\n0\r\n\r\n")
        if self._answer and (chunked_end or 0 < self._whole <= len(self._received)):
            self._answer.set_result(bytes(self._received))

    def _read_head(self) -> None:
        end = self._received.find(b"\r\n\r\n") + 4
        if end < 4:
            return
        head = bytes(self._received[:end]).lower()
        _, found, length = head.partition(b"content-length:")
        self._whole = end + int(length.split(b"\r", 1)[0]) if found else 0

    async def ask(self, request: bytes) -> bytes:
        self._received.clear()
        self._whole = -1
        self._answer = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return await asyncio.wait_for(self._answer, _PATIENCE)


def _request(order: dict[str, Any]) -> bytes:
    body = json.dumps(order["body"]).encode() if order.get("body") else b""
    head = [
        f"{'POST' if body else 'GET'} {order['path']} HTTP/1.1",
        f"host: 127.0.0.1:{order['port']}",
        *(f"{name}: {value}" for name, value in order["headers"].items()),
        *(["content-type: application/json", f"content-length: {len(body)}"] if body else []),
    ]
    return "\r\n".join([*head, "", ""]).encode() + body


def _check(answer: bytes, order: dict[str, Any]) -> None:
    """Raises ValueError: a fast wrong answer is none."""
    found = answer.count(order["needle"].encode())
    if not answer.startswith(b"HTTP/1.1 200") or found != order["needles"]:
        text = f"{order['path']} answered with {found} x {order['needle']!r}, not {order['needles']}: {answer[:600]!r}"
        raise ValueError(text)


class Stream(Connection):
    """A connection that notes when pieces of its answer came."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[float] = []

    def data_received(self, data: bytes) -> None:
        if b"word" in data:
            self.pieces.append(perf_counter())
        super().data_received(data)


async def crowd(order: dict[str, Any]) -> dict[str, float]:
    """Opens `streams` streams at once. What each holds in the server, and the gaps between their pieces once all of
    them have begun: the median, and the longest of any."""
    request, loop = _request(order), asyncio.get_running_loop()
    before = resident_mb(order["pid"])
    streams = [(await loop.create_connection(Stream, "127.0.0.1", order["port"]))[1] for _ in range(order["streams"])]
    try:
        answers = asyncio.gather(*(one.ask(request) for one in streams))
        while not all(one.pieces for one in streams) and not answers.done():  # noqa: ASYNC110  # cheaper than 1,000 events
            await asyncio.sleep(0.1)
        began, held = perf_counter(), resident_mb(order["pid"]) - before
        for answer in await answers:
            _check(answer, order)
    finally:
        for one in streams:
            one.transport.close()
    gaps = sorted(
        later - earlier for one in streams for earlier, later in pairwise(at for at in one.pieces if at >= began)
    )
    return {
        "kb_a_stream": held * 1024 / len(streams),
        "gap_median_ms": percentile(gaps, 0.5) * 1000,
        "gap_longest_ms": gaps[-1] * 1000,
    }


async def run(order: dict[str, Any]) -> dict[str, float]:
    """Sends `count` requests over `clients` connections, after two each to warm up."""
    request, loop = _request(order), asyncio.get_running_loop()
    connections = [
        (await loop.create_connection(Connection, "127.0.0.1", order["port"]))[1] for _ in range(order["clients"])
    ]
    latencies: list[float] = []
    firsts: list[float] = []
    remaining = iter(range(order["count"]))

    async def client(connection: Connection) -> None:
        for _ in remaining:
            began = perf_counter()
            answer = await connection.ask(request)
            latencies.append(perf_counter() - began)
            firsts.append(connection.first_byte - began)
            _check(answer, order)

    try:
        # Not checked: the upstream may be closing a connection of the server's that was idle since the last batch.
        await asyncio.gather(*(connection.ask(request) for connection in connections))
        for answer in await asyncio.gather(*(connection.ask(request) for connection in connections)):
            _check(answer, order)
        await asyncio.sleep(_SETTLE)
        cpu, began = cpu_seconds(order["pid"]), perf_counter()
        async with asyncio.TaskGroup() as group:
            for connection in connections:
                group.create_task(client(connection))
        wall = perf_counter() - began
        await asyncio.sleep(_SETTLE)
        return batch(latencies, cpu_seconds(order["pid"]) - cpu, wall, firsts)
    finally:
        for connection in connections:
            connection.transport.close()


def main() -> None:
    print("ready", flush=True)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for line in sys.stdin:
            order = json.loads(line)
            print(json.dumps(runner.run(crowd(order) if "streams" in order else run(order))), flush=True)


if __name__ == "__main__":
    main()
