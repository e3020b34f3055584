"""An LLM server that answers what a test wrote down, one answer for each request, and remembers what it was asked.

It runs in the tests' own process. The same server has tools: `POST /tools/<name>` answers what
the test set for it.
"""

import json
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

_PATIENCE = 20  # seconds until a forgotten gate opens by itself


@dataclass
class Answer:
    """`deltas` are streamed one by one, or put together for who asks for a whole answer; `status` other than 200 is an
    error; `is_cut` ends the connection after them; `gate` is waited for before the last delta."""

    deltas: Sequence[dict[str, Any]] = ()
    finish_reason: str = "stop"
    usage: tuple[int, int] = (10, 5)
    status: int = 200
    is_cut: bool = False
    gate: threading.Event | None = None


def says(*pieces: str, **more: Any) -> Answer:
    return Answer([{"content": piece} for piece in pieces], **more)


def call(name: str, id: str | None = None, *, index: int | None = 0, **arguments: Any) -> dict[str, Any]:
    """A tool call in one piece."""
    return piece(index, json.dumps(arguments), name=name, id=id)


def piece(index: int | None, arguments: str, *, name: str | None = None, id: str | None = None) -> dict[str, Any]:
    function = {"arguments": arguments} if name is None else {"name": name, "arguments": arguments}
    identity = {"id": id, "type": "function"} if id else {}
    return {**({} if index is None else {"index": index}), **identity, "function": function}


def calls(*made: dict[str, Any], text: Sequence[str] = (), finish_reason: str = "tool_calls", **more: Any) -> Answer:
    """Each of `made` in a chunk of its own, after the text."""
    deltas = [*({"content": one} for one in text), *({"tool_calls": [one]} for one in made)]
    return Answer(deltas, finish_reason, **more)


@dataclass
class Result:
    """What a tool answers, once `gate` is open."""

    value: Any
    gate: threading.Event | None = None


@dataclass
class _Script:
    answers: list[Answer] = field(default_factory=list)
    asked: list[dict[str, Any]] = field(default_factory=list)
    results: dict[str, Result] = field(default_factory=dict)
    called: list[tuple[str, Any]] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


class ScriptedUpstream:
    """`with ScriptedUpstream() as upstream:` serves until the end of the block."""

    def __init__(self) -> None:
        self._script = _Script()
        handler = type("Handler", (_Handler,), {"script": self._script})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def base_url(self) -> str:
        return f"{self.url}/v1"

    def will(self, *answers: Answer) -> None:
        """Forgets what was before; the next requests get these answers."""
        with self._script.lock:
            self._script.answers[:] = answers
            self._script.asked.clear()
            self._script.called.clear()
            self._script.left.clear()

    def answers_tool(self, name: str, value: Any, *, gate: threading.Event | None = None) -> None:
        self._script.results[name] = Result(value, gate)

    @property
    def asked(self) -> list[dict[str, Any]]:
        """The bodies of the requests since `will`."""
        return list(self._script.asked)

    @property
    def called(self) -> list[tuple[str, Any]]:
        """(tool, arguments) in the order of their arrival."""
        return list(self._script.called)

    @property
    def left(self) -> list[str]:
        """Paths of the requests whose client did not wait for the end."""
        return list(self._script.left)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    script: _Script

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("content-length") or 0)) or b"{}")
        try:
            if self.path.startswith("/tools/"):
                self._tool(self.path.removeprefix("/tools/"), body)
            else:
                self._chat(body)
        except ConnectionError:
            self.script.left.append(self.path)
            self.close_connection = True

    def _tool(self, name: str, arguments: Any) -> None:
        with self.script.lock:
            self.script.called.append((name, arguments))
        result = self.script.results[name]
        if result.gate:
            self._wait(result.gate)
        self._whole(200, result.value)

    def _wait(self, gate: threading.Event) -> None:
        """Raises ConnectionError when the client leaves first."""
        self.connection.settimeout(0.02)
        for _ in range(int(_PATIENCE / 0.02)):
            if gate.is_set():
                break
            try:
                if not self.connection.recv(1):
                    raise ConnectionResetError
            except TimeoutError:
                continue
        self.connection.settimeout(None)

    def _chat(self, body: dict[str, Any]) -> None:
        with self.script.lock:
            self.script.asked.append(body)
            answer = self.script.answers.pop(0) if self.script.answers else Answer(status=501)
        if answer.status != 200:
            self._whole(answer.status, {"error": {"message": f"Failing with {answer.status}, as scripted."}})
        elif body.get("stream"):
            self._stream(answer)
        else:
            if answer.gate:
                self._wait(answer.gate)
            self._whole(200, _completion(answer))

    def _stream(self, answer: Answer) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        last = len(answer.deltas) - 1
        for number, delta in enumerate(answer.deltas):
            if answer.gate and number == last:
                self._wait(answer.gate)
            self._part(_chunk(delta))
        if answer.is_cut:
            self.close_connection = True
            return
        for data in _ending(answer):
            self._part(data)
        self.wfile.write(b"0\r\n\r\n")

    def _part(self, data: bytes) -> None:
        frame = b"data: " + data + b"\n\n"
        self.wfile.write(b"%x\r\n%s\r\n" % (len(frame), frame))
        self.wfile.flush()

    def _whole(self, status: int, value: Any) -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Silent."""


def _chunk(delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
    choices = [{"index": 0, "delta": delta, "finish_reason": finish_reason}]
    return json.dumps({"id": "x", "object": "chat.completion.chunk", "choices": choices}).encode()


def _ending(answer: Answer) -> Iterator[bytes]:
    yield _chunk({}, answer.finish_reason)
    yield json.dumps({"id": "x", "object": "chat.completion.chunk", "choices": [], "usage": _usage(answer)}).encode()
    yield b"[DONE]"


def _completion(answer: Answer) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": None}
    made: dict[int, dict[str, Any]] = {}
    for delta in answer.deltas:
        for name, value in delta.items():
            if name != "tool_calls":
                message[name] = (message.get(name) or "") + value
                continue
            for one in value:
                _gather(made, one)
    if made:
        message["tool_calls"] = list(made.values())
    choices = [{"index": 0, "message": message, "finish_reason": answer.finish_reason}]
    return {"id": "x", "object": "chat.completion", "choices": choices, "usage": _usage(answer)}


def _gather(made: dict[int, dict[str, Any]], piece: dict[str, Any]) -> None:
    known = made.get(piece.get("index", len(made)))
    if known:
        known["function"]["arguments"] += piece["function"]["arguments"]
    else:
        made[len(made)] = {**{k: v for k, v in piece.items() if k != "index"}, "function": {**piece["function"]}}


def _usage(answer: Answer) -> dict[str, int]:
    prompt, completion = answer.usage
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def roles(messages: Iterable[dict[str, Any]]) -> list[str]:
    return [message["role"] for message in messages]
