"""The /v1 road: nothing on it is synchronous, and what its docstring promises.

Driven as uvicorn drives it, by ASGI messages, in this process: threads and the database can be watched only from here.
"""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import pytest
from asgiref.sync import SyncToAsync, sync_to_async
from django.conf import settings
from django.core.exceptions import SynchronousOnlyOperation
from django.core.handlers.asgi import ASGIRequest
from django.db import connection
from django.urls import get_resolver
from django.utils.module_loading import import_string

from apps.access.models import ApiKey
from apps.catalog import registry
from apps.core import live_config, loop_handler
from apps.core.loop_handler import EventStream, LoopHandler
from apps.execution import sdk_runner
from apps.execution.models import Run
from apps.upstreams.models import Kind
from tests.conftest import write_source
from tests.factories import ApiKeyFactory, UpstreamFactory

KEY = "agw_of_the_loop_handlers_tests"
CHAT = "/v1/chat/completions"
AGENT = '''
from agents import Agent, function_tool


@function_tool
async def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"Rain in {city}."


agent = Agent(name="Plain", instructions="Answer.", tools=[get_weather])
'''


class Client:
    """One request over ASGI. `leave` is the connection closing."""

    def __init__(self, handler: Any, method: str, path: str, body: bytes = b"", headers: Any = ()) -> None:
        self._handler = handler
        self.scope = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": b"",
            "headers": [(b"host", b"localhost"), (b"x-api-key", KEY.encode()), *headers],
            "http_version": "1.1",
            "scheme": "http",
        }
        self._incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._incoming.put_nowait({"type": "http.request", "body": body, "more_body": False})
        self.sent: list[dict[str, Any]] = []
        self.arrived = asyncio.Event()

    async def run(self) -> None:
        await self._handler(self.scope, self._incoming.get, self._send)

    async def _send(self, message: dict[str, Any]) -> None:
        self.sent.append(message)
        self.arrived.set()

    def leave(self) -> None:
        self._incoming.put_nowait({"type": "http.disconnect"})

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def body(self) -> bytes:
        return b"".join(message["body"] for message in self.sent[1:])


def chat_body(text: str, *, stream: bool) -> bytes:
    asked = {"model": "default/plain", "messages": [{"role": "user", "content": text}], "stream": stream}
    return json.dumps(asked).encode()


@asynccontextmanager
async def served(agents: Path) -> AsyncIterator[LoopHandler]:
    """A handler over one agent and the demo upstream in process, as a worker would have prepared it."""
    await sync_to_async(_prepare)(agents)
    handler = LoopHandler()
    await Client(handler, "GET", "/v1/models").run()  # the resolver is built at the first request
    try:
        yield handler
    finally:
        live_config.forget()
        await sync_to_async(_close_connection)()


def _close_connection() -> None:
    connection.close()  # the thread's own; PostgreSQL would not let the test database go


def _prepare(agents: Path) -> None:
    live_config.forget()  # of another test's rows, whose versions may have been the same
    write_source(agents / "Plain", AGENT)
    ApiKeyFactory(credential=KEY)
    UpstreamFactory(slug="demo", kind=Kind.DEMO, base_url="", is_default=True)
    live_config.refresh()
    registry.refresh()
    sdk_runner.install()


@pytest.fixture
def agents(tmp_path: Path, settings: Any) -> Path:
    settings.GATEWAY_AGENT_DISCOVERY_PATH = [tmp_path / "agents"]
    return tmp_path / "agents"


def test_no_middleware_of_the_road_is_synchronous() -> None:
    capable = {path: import_string(path) for path in settings.LOOP_MIDDLEWARE}

    assert {path: getattr(one, "async_capable", False) for path, one in capable.items()} == dict.fromkeys(capable, True)

    async def get_response(request: Any) -> Any:
        return None

    made = [one(get_response) for one in capable.values()]
    assert [asyncio.iscoroutinefunction(one) for one in made] == [True] * len(made)  # as Django asks, marks included


def test_no_view_of_the_road_is_synchronous() -> None:
    paths = [CHAT, "/v1/models", "/v1/models/default/plain", "/v1/nothing", "/health", "/ready"]

    views = {path: get_resolver().resolve(path).func for path in paths}

    assert {path: asyncio.iscoroutinefunction(view) for path, view in views.items()} == dict.fromkeys(paths, True)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize(
    ("method", "path", "text"),
    [
        ("GET", "/v1/models", ""),
        ("GET", "/v1/models/default/plain", ""),
        ("GET", "/v1/nothing", ""),
        ("POST", CHAT, "[[words=5]]"),
        ("POST", CHAT, "What is the weather in Oslo?"),
    ],
)
async def test_requests_start_no_thread_and_ask_the_database_nothing(
    agents: Path, monkeypatch: pytest.MonkeyPatch, method: str, path: str, text: str, stream: bool
) -> None:
    asked: list[str] = []
    hops: list[Any] = []
    sync_hop = SyncToAsync.__call__

    async def hop(self: Any, *args: Any, **kwargs: Any) -> Any:
        hops.append(self.func)
        return await sync_hop(self, *args, **kwargs)

    def record(execute: Callable[..., Any], sql: str, *args: Any) -> Any:
        asked.append(sql)
        return execute(sql, *args)

    async with served(agents) as handler:
        body = chat_body(text, stream=stream) if text else b""
        await Client(handler, method, path, body).run()  # whatever is made once
        threads = threading.enumerate()
        asyncio.get_running_loop().set_default_executor(_Recording(hops))
        monkeypatch.setattr(SyncToAsync, "__call__", hop)
        client = Client(handler, method, path, body)

        with connection.execute_wrapper(record):  # of this thread's connection, the loop's
            await client.run()

        monkeypatch.undo()
        assert client.status == (404 if path == "/v1/nothing" else 200)
        assert asked == []
        assert hops == []
        assert threading.enumerate() == threads


class _Recording(ThreadPoolExecutor):
    """The loop's executor, noting what it is given."""

    def __init__(self, given: list[Any]) -> None:
        super().__init__(1)
        self._given = given

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        self._given.append(fn)
        return super().submit(fn, *args, **kwargs)


@pytest.mark.django_db(transaction=True)
async def test_database_is_out_of_reach_on_the_loop() -> None:
    with pytest.raises(SynchronousOnlyOperation):
        ApiKey.objects.count()


@pytest.mark.django_db(transaction=True)
async def test_answers_are_whole(agents: Path) -> None:
    async with served(agents) as handler:
        client = Client(handler, "POST", CHAT, chat_body("[[say=Hello.]]", stream=False))
        await client.run()

    assert json.loads(client.body)["choices"][0]["message"]["content"] == "Hello."
    assert [message["type"] for message in client.sent] == ["http.response.start", "http.response.body"]


@pytest.mark.django_db(transaction=True)
async def test_body_in_many_pieces_is_put_together(agents: Path) -> None:
    body = chat_body("[[say=In pieces.]]", stream=False)
    async with served(agents) as handler:
        client = Client(handler, "POST", CHAT)
        client._incoming.get_nowait()
        for at in range(0, len(body), 7):
            client._incoming.put_nowait({"type": "http.request", "body": body[at : at + 7], "more_body": True})
        client._incoming.put_nowait({"type": "http.request"})
        await client.run()

    assert json.loads(client.body)["choices"][0]["message"]["content"] == "In pieces."


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("announced", [True, False], ids=["announced", "chunked"])
async def test_body_over_the_limit_is_refused_unread(agents: Path, settings: Any, announced: bool) -> None:
    settings.GATEWAY_MAX_BODY_BYTES = 1000
    headers = [(b"content-length", b"5000")] if announced else []
    async with served(agents) as handler:
        client = Client(handler, "POST", CHAT, b"x" * 5000, headers)
        await client.run()

    assert client.status == 413
    assert json.loads(client.body)["error"]["message"].startswith("The request body is larger than 1,000 bytes.")


@pytest.mark.django_db(transaction=True)
async def test_client_that_leaves_before_its_request_is_read_gets_nothing(agents: Path) -> None:
    async with served(agents) as handler:
        client = Client(handler, "POST", CHAT)
        client._incoming.get_nowait()
        client.leave()
        await client.run()

    assert client.sent == []


@pytest.mark.django_db(transaction=True)
async def test_client_that_leaves_in_mid_stream_ends_it(agents: Path) -> None:
    async with served(agents) as handler:
        client = Client(handler, "POST", CHAT, chat_body("[[words=100000]]", stream=True))
        answering = asyncio.create_task(client.run())
        await asyncio.wait_for(client.arrived.wait(), 5)

        client.leave()
        await asyncio.wait_for(answering, 5)

    assert not client.body.endswith(b"data: [DONE]\n\n")


@pytest.mark.django_db(transaction=True)
async def test_silence_is_filled_with_comments(agents: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The interval is ten seconds; nothing else is replaced."""
    monkeypatch.setattr(loop_handler, "_KEEPALIVE_SECONDS", 0.05)
    closed = asyncio.Event()
    talk = asyncio.Event()

    async def frames() -> Any:
        yield b"data: 1\n\n"
        await talk.wait()
        yield b"data: 2\n\n"

    async def close() -> None:
        closed.set()

    sent: list[bytes] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message.get("body", b""))
        if sent.count(b": keepalive\n\n") == 3:
            talk.set()

    response = EventStream(frames(), close)
    await asyncio.wait_for(loop_handler._send(response, send), 10)

    assert sent[1] == b"data: 1\n\n"
    assert sent[-2:] == [b"data: 2\n\n", b""]
    assert set(sent[2:-2]) == {b": keepalive\n\n"}


@pytest.mark.django_db(transaction=True)
async def test_run_is_queued_and_not_written_on_the_loop(agents: Path) -> None:
    async with served(agents) as handler:
        await Client(handler, "POST", CHAT, chat_body("[[say=Hello.]]", stream=True)).run()

        assert await sync_to_async(Run.objects.count)() == 0  # the writer's thread is not started here


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"host", b"h"), (b"content-type", b"application/json; charset=latin-1"), (b"content-length", b"1")],
        [
            (b"accept", b"a"),
            (b"accept", b"b"),
            (b"cookie", b"a=1"),
            (b"cookie", b"b=2"),
            (b"x-name", "Zoë".encode("latin-1")),
        ],
        [(b"x_forwarded_for", b"1.2.3.4"), (b"x-forwarded-for", b"5.6.7.8"), (b"authorization", b"Bearer x")],
    ],
)
def test_request_says_what_djangos_says(headers: list[tuple[bytes, bytes]]) -> None:
    scope = {
        "type": "http", "method": "POST", "path": "/v1/x", "query_string": b"a=1", "headers": headers,
        "client": ("1.2.3.4", 5), "server": ("h", 80), "root_path": "",
    }  # fmt: skip
    ours, theirs = loop_handler.LoopRequest(scope, cast("Any", None), b"{}"), ASGIRequest(scope, BytesIO(b"{}"))

    assert ours.META == theirs.META
    for name in ("scope", "path", "method", "content_type", "content_params", "encoding", "headers", "GET", "COOKIES"):
        assert getattr(ours, name) == getattr(theirs, name)
