"""The live page's WebSocket: real servers, the `websockets` client, a session of the admin's login."""

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.conftest import write_source
from tests.harness import GatewayServer, RedisServer, Template, eventually
from tests.harness.polling import SOON

TOOLS = """
from agents import Agent, function_tool

@function_tool
def get_weather(city: str) -> str:
    return f"Rain in {city}, a secret of the tool."

agent = Agent(name="Tools", instructions="Use your tools.", tools=[get_weather])
"""
PLAIN = 'from agents import Agent\nagent = Agent(name="Plain", instructions="Answer.")\n'


class Live:
    """A live page: its connection, and what it has been told."""

    def __init__(self, server: GatewayServer, cookie: str, *, since: str = "") -> None:
        address = server.url.replace("http", "ws", 1) + "/admin/live/feed/" + (f"?since={since}" if since else "")
        self.connection: ClientConnection = connect(
            address, origin=server.url, additional_headers={"Cookie": f"sessionid={cookie}"}, compression=None
        )
        self.lines: list[dict[str, Any]] = []
        self.missed = 0
        self.state: dict[str, Any] = {}

    def read(self, within: float) -> bool:
        """One message, when there is one in time."""
        try:
            message = json.loads(self.connection.recv(timeout=within))
        except TimeoutError:
            return False
        self.lines += message["lines"]
        self.missed += message["missed"]
        self.state = message["state"]
        return True

    def read_until(self, is_there: Callable[[], Any], *, within: float = SOON) -> Any:
        deadline = time.monotonic() + within
        while not (found := is_there()):
            left = deadline - time.monotonic()
            assert left > 0, f"never came; the last of {len(self.lines)}: {self.lines[-5:]}, {self.state}"
            self.read(left)
        return found

    def line(self, within: float = SOON, **matching: Any) -> dict[str, Any]:
        """The first line with these members."""

        def found() -> dict[str, Any] | None:
            return next((one for one in self.lines if matching.items() <= one.items()), None)

        line: dict[str, Any] = self.read_until(found, within=within)
        return line

    def position(self) -> str:
        last = {one["worker"]: one["number"] for one in self.lines}
        return ",".join(f"{worker}:{number}" for worker, number in last.items())

    def close_code(self) -> int:
        """Once the server has closed it."""
        with contextlib.suppress(ConnectionClosed):
            while True:
                self.connection.recv(timeout=SOON)
        assert self.connection.close_code is not None
        return self.connection.close_code


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, template: Template) -> Iterator[GatewayServer]:
    folder = tmp_path_factory.mktemp("live")
    write_source(folder / "agents" / "Tools", TOOLS)
    write_source(folder / "agents" / "Plain", PLAIN)
    with GatewayServer(folder / "data", agents=folder / "agents", template=template) as started:
        yield started


@pytest.fixture(scope="module")
def cookie(server: GatewayServer) -> str:
    return str(server.operator.log_in("admin"))


@pytest.fixture
def watch(server: GatewayServer, cookie: str) -> Iterator[Callable[..., Live]]:
    with contextlib.ExitStack() as stack:

        def open_page(cookie: str = cookie, **options: Any) -> Live:
            page = Live(server, cookie, **options)
            stack.callback(page.connection.close)
            return page

        yield open_page


def ask(server: GatewayServer, model: str, text: str, *, request_id: str = "") -> None:
    headers = {"x-request-id": request_id} if request_id else {}
    server.openai().chat.completions.create(
        model=model, messages=[{"role": "user", "content": text}], extra_headers=headers
    )


def test_run_is_seen_from_its_start_to_its_end(server: GatewayServer, watch: Callable[..., Live]) -> None:
    page = watch()
    ask(server, "default/tools", "Call get_weather for Oslo, a secret of the prompt", request_id="live-1")

    end = page.line(name="run_finished", request_id="live-1")
    start, call = page.line(name="run_started", request_id="live-1"), page.line(name="tool_call_finished")

    assert start["number"] < call["number"] < end["number"]
    assert {one["run_id"] for one in (start, call, end)} == {end["run_id"]}
    assert (start["kind"], call["kind"], end["kind"]) == ("run", "step", "run")
    assert (start["agent"], start["what"], call["what"]) == ("default/tools", "started", "get_weather: ok")
    assert end["what"].startswith("completed, by llm/demo, ")
    assert "secret" not in json.dumps(page.lines)


def test_failures_discovery_and_configuration_are_seen(server: GatewayServer, watch: Callable[..., Live]) -> None:
    page = watch()
    write_source(server.agents / "Broken", "raise ValueError")
    server.operator.put_limit(requests_per_minute=100_000)
    server.request("GET", "/v1/models", headers={"Authorization": "Bearer nobody", "x-request-id": "live-2"})

    broken = page.line(name="agent_not_loaded", agent="default/broken")
    refused = page.line(name="request_finished", request_id="live-2")

    assert (broken["kind"], broken["is_bad"]) == ("discovery", True)
    assert (refused["kind"], refused["is_bad"], refused["what"]) == ("request", True, "GET /v1/models → 401")
    assert page.line(name="configuration_changed")["kind"] == "configuration"


def test_page_that_comes_back_gets_what_it_missed_and_nothing_twice(
    server: GatewayServer, watch: Callable[..., Live]
) -> None:
    before = watch()
    ask(server, "default/plain", "Hello", request_id="live-3")
    before.line(name="run_finished", request_id="live-3")
    before.connection.close()
    ask(server, "default/plain", "Hello", request_id="live-4")

    after = watch(since=before.position())

    after.line(name="run_finished", request_id="live-4")
    assert min(one["number"] for one in after.lines) == before.lines[-1]["number"] + 1
    assert (after.missed, after.state["worker"]) == (0, before.state["worker"])


def test_new_page_sees_what_was_before_it(server: GatewayServer, watch: Callable[..., Live]) -> None:
    ask(server, "default/plain", "Hello", request_id="live-5")
    page = watch(since="nonsense,w1:x,:,w2:99999999999999999999,w0:5")  # of workers that are gone, and none at all
    page.line(name="run_finished", request_id="live-5")


def test_only_staff_who_may_view_runs_watch(server: GatewayServer, watch: Callable[..., Live]) -> None:
    nobody = watch("no-such-session")
    customer = watch(server.operator.log_in("customer", is_staff=False, permissions=["view_run"]))
    clerk = watch(server.operator.log_in("clerk"))
    operator = watch(server.operator.log_in("operator", permissions=["view_run"]))

    assert [one.close_code() for one in (nobody, customer, clerk)] == [4401, 4403, 4403]
    assert operator.read_until(lambda: operator.state)["worker"]


@pytest.mark.parametrize(
    ("path", "origin"),
    [
        ("/admin/live/feed/", "https://evil.example"),
        ("/admin/live/feed/", "http://127.0.0.1:1"),  # another port of this host, to which the cookie goes as well
        ("/admin/live/feed/", None),
        ("/v1/chat/completions", "same"),  # no WebSocket is there
    ],
)
def test_other_origins_and_paths_are_refused(server: GatewayServer, cookie: str, path: str, origin: Any) -> None:
    address = server.url.replace("http", "ws", 1) + path
    origin = server.url if origin == "same" else origin
    with pytest.raises(InvalidStatus) as refused:
        connect(address, origin=origin, additional_headers={"Cookie": f"sessionid={cookie}"})
    assert refused.value.response.status_code == 403


# --- several workers -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Of this file's own: it is killed."""
    if not RedisServer.is_installed():
        pytest.skip("no redis-server to test with: several workers tell each other through Redis")
    with RedisServer(tmp_path_factory.mktemp("redis")) as started:
        yield started


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, template: Template, redis: RedisServer) -> Iterator[GatewayServer]:
    folder = tmp_path_factory.mktemp("pair")
    write_source(folder / "agents" / "Plain", PLAIN)
    settings = {"GATEWAY_WORKERS": "2", "REDIS_URL": redis.url}
    with GatewayServer(folder / "data", agents=folder / "agents", template=template, **settings) as started:
        yield started


@pytest.fixture
def page(pair: GatewayServer) -> Iterator[Live]:
    opened = Live(pair, pair.operator.log_in("admin"))
    yield opened
    opened.connection.close()


def ask_elsewhere(server: GatewayServer, page: Live) -> str:
    """A run on another worker than the page's; returns its request id."""
    for attempt in range(40):
        request_id = f"elsewhere-{time.monotonic_ns()}-{attempt}"
        ask(server, "default/plain", "Hello", request_id=request_id)
        if page.line(name="run_finished", request_id=request_id)["worker"] != page.state["worker"]:
            return request_id
    raise AssertionError("all requests came to one worker")


def test_page_shows_the_runs_of_all_workers(pair: GatewayServer, page: Live) -> None:
    page.read_until(lambda: len(page.state.get("workers", [])) == 2)
    request_id = ask_elsewhere(pair, page)
    lines = [one for one in page.lines if one.get("request_id") == request_id]
    assert [one["name"] for one in lines if one["kind"] == "run"] == ["run_started", "run_finished"]
    assert (page.state["is_shared"], page.state["outage"], page.missed) == (True, "", 0)


def test_page_goes_on_without_redis_and_makes_up_for_it(pair: GatewayServer, page: Live, redis: RedisServer) -> None:
    page.read_until(lambda: len(page.state.get("workers", [])) == 2)
    redis.stop()
    try:
        page.read_until(lambda: page.state["outage"], within=10)
        asked = [f"without-redis-{number}" for number in range(24)]
        with ThreadPoolExecutor(6) as pool:  # some here, some elsewhere
            list(pool.map(lambda request_id: ask(pair, "default/plain", "Hello", request_id=request_id), asked))
    finally:
        redis.start()

    def told() -> set[str]:
        return {one["request_id"] for one in page.lines if one["name"] == "run_finished"}

    page.read_until(lambda: told() >= set(asked) and not page.state["outage"], within=25)
    numbers = [(one["worker"], one["number"]) for one in page.lines]
    assert len(set(numbers)) == len(numbers)
    assert len({one["worker"] for one in page.lines if one.get("request_id") in asked}) == 2
    eventually(lambda: len(pair.log(event="live_feed_down")), 2)  # one line of each worker
