"""An upstream that answers as the demo does, and remembers what it was asked: what an agent's model really sees.

It runs in the tests' own process, so that a test can read the requests and order failures. Several upstreams are one
server: the first part of the path tells them apart.
"""

import json
import re
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from apps.upstreams import demo
from apps.upstreams.demo import DemoRequestError

# What is not the agent's doing: how the answer travels, and which name the upstream gives its model.
_TRANSPORT = {"stream", "stream_options", "model"}


@dataclass(frozen=True)
class Asked:
    """One request for a completion."""

    upstream: str
    query: str
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def model(self) -> str:
        return str(self.body["model"])

    @property
    def system(self) -> str:
        """The instructions."""
        return "\n".join(message["content"] for message in self.body["messages"] if message["role"] == "system")

    @property
    def tool_names(self) -> list[str]:
        return [tool["function"]["name"] for tool in self.body.get("tools", ())]


@dataclass
class _Orders:
    """What the server is to do, and what it did. Touched by the server's threads and the test's."""

    asked: list[Asked] = field(default_factory=list)
    failures: list[int] = field(default_factory=list)
    cut: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


class RecordingUpstream:
    """`with RecordingUpstream() as upstream:` serves until the end of the block."""

    def __init__(self) -> None:
        self._orders = _Orders()
        handler = type("Handler", (_Handler,), {"orders": self._orders})
        self._server = _Server(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def base_url(self, upstream: str) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/{upstream}/v1"

    def fail_next(self, *statuses: int) -> None:
        """The next requests fail with these statuses, one each."""
        with self._orders.lock:
            self._orders.failures.extend(statuses)

    def cut_count(self) -> int:
        """How many answers their reader left before the end."""
        return self._orders.cut

    def taken(self) -> list[Asked]:
        """The requests since the last call. Failures that nobody met are called off."""
        with self._orders.lock:
            self._orders.failures.clear()
            asked, self._orders.asked[:] = list(self._orders.asked), []
        return asked


def comparable(asked: Iterable[Asked]) -> list[str]:
    """The requests in a form that is equal for equal runs: tool calls are told apart by their order, not their ids."""
    bodies = [one.body for one in asked]
    calls = [call for body in bodies for message in body["messages"] for call in message.get("tool_calls") or ()]
    # Nested histories tell ids in prose, of calls that no request has as such.
    ids = [call["id"] for call in calls] + re.findall(r"call_demo_\w+", json.dumps(bodies))
    names = {id: f"<call {number}>" for number, id in enumerate(dict.fromkeys(ids))}
    return [_renamed(body, names) for body in bodies]


def _renamed(body: dict[str, Any], names: Mapping[str, str]) -> str:
    kept = {name: value for name, value in body.items() if name not in _TRANSPORT}
    text = json.dumps(kept, sort_keys=True, ensure_ascii=False)
    for id, name in names.items():
        text = text.replace(id, name)
    return text


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A reader that left is no error; anything else is the test's business."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    orders: _Orders

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        headers = {name.lower(): value for name, value in self.headers.items()}
        path, _, query = self.path.partition("?")
        with self.orders.lock:
            self.orders.asked.append(Asked(path.split("/")[1], query, headers, body))
            failure = self.orders.failures.pop(0) if self.orders.failures else None
        if failure:
            return self._send(failure, {"error": {"message": f"Failing with {failure}, as ordered."}})
        try:
            return self._stream(body) if body.get("stream") else self._send(200, demo.completion(body))
        except DemoRequestError as error:
            return self._send(400, {"error": {"message": str(error)}})

    def _send(self, status: int, answer: dict[str, Any]) -> None:
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _stream(self, body: dict[str, Any]) -> None:
        chunks = demo.chunks(body)
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        try:
            for frame in _frames(chunks, demo.delay_of(body) or 0):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(frame), frame))
            self.wfile.write(b"0\r\n\r\n")
        except ConnectionError:
            self.orders.cut += 1
            self.close_connection = True

    def log_message(self, *_: Any) -> None:
        """Silent."""


def _frames(chunks: Iterator[dict[str, Any]], delay: float) -> Iterator[bytes]:
    for chunk in chunks:
        yield b"data: " + json.dumps(chunk).encode() + b"\n\n"
        if delay:
            time.sleep(delay)
    yield b"data: [DONE]\n\n"
