"""The connection to one MCP server, against real ones over every transport."""

import asyncio
import os
import resource
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from apps.tools.mcp.connection import Connection
from apps.tools.mcp.failures import ServerDown
from apps.tools.mcp.server import Server
from apps.tools.models import Transport
from apps.tools.tool import ToolOutput
from tests.harness.process_table import is_alive
from tests.tools.mcp_parts import BARE, FAKE, MOODS, Remote, Seen, ask, connected, server, soon, stdio


@pytest.fixture(scope="module")
def remotes() -> Iterator[dict[str, Remote]]:
    running = {
        "http": Remote(FAKE, "--transport", "http"),
        "sse": Remote(FAKE, "--transport", "sse"),
        "moods": Remote(MOODS, "--http"),
    }
    with ThreadPoolExecutor() as pool:
        list(pool.map(Remote.start, running.values()))
    yield running
    for one in running.values():
        one.stop(signal.SIGKILL)


@pytest.fixture(params=["stdio", "http", "sse"])
def plain(request: pytest.FixtureRequest, remotes: dict[str, Remote]) -> Server:
    """The fake over each transport."""
    if request.param == "stdio":
        return stdio(FAKE)
    return server(transport=Transport(request.param), url=remotes[request.param].url)


@pytest.fixture(params=["stdio", "http"])
def moods(request: pytest.FixtureRequest, remotes: dict[str, Remote]) -> Server:
    return stdio(MOODS) if request.param == "stdio" else server(url=remotes["moods"].url)


# --- calls -----------------------------------------------------------------------------------------------------------


async def test_tools_are_listed_and_called(plain: Server) -> None:
    seen = Seen()
    async with connected(plain, seen) as box:
        assert await ask(box, "add", a=20, b=22) == ToolOutput("42")
        await soon(lambda: seen.lists, [["add", "pid", "version", "where", "linger", "block", "crash"]])
        assert seen.states == ["connected"]


async def test_calls_at_once_share_the_connection(plain: Server, tmp_path: Path) -> None:
    async with connected(plain) as box:
        slow = asyncio.create_task(ask(box, "linger", path=str(tmp_path / "go")))
        await soon((tmp_path / "go.started").exists, True)

        sums = await asyncio.gather(*(ask(box, "add", a=number, b=1) for number in range(40)))

        assert [one.text for one in sums] == [str(number + 1) for number in range(40)]
        assert not slow.done()
        (tmp_path / "go").touch()
        assert (await slow).text == f"process {(await ask(box, 'pid')).text}"


async def test_no_more_calls_at_once_than_the_server_may_have(tmp_path: Path) -> None:
    async with connected(stdio(max_concurrency=2)) as box:
        calls = [asyncio.create_task(ask(box, "linger", path=str(tmp_path / str(number)))) for number in range(3)]
        await soon(lambda: len(list(tmp_path.glob("*.started"))), 2)
        await ask_in_vain(box)

        (tmp_path / "0").touch()

        await soon((tmp_path / "2.started").exists, True)
        for number in (1, 2):
            (tmp_path / str(number)).touch()
        await asyncio.gather(*calls)


async def ask_in_vain(box: Connection) -> None:
    """A call that gets no slot in time leaves nothing behind."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await ask(box, "pid")


async def test_cancelled_call_is_told_to_the_server_and_disturbs_no_other(moods: Server, tmp_path: Path) -> None:
    async with connected(moods) as box:
        leaves = asyncio.create_task(ask(box, "hold", path=str(tmp_path / "leaves")))
        stays = asyncio.create_task(ask(box, "hold", path=str(tmp_path / "stays")))
        await soon(lambda: len(list(tmp_path.glob("*.started"))), 2)

        leaves.cancel()

        await soon((tmp_path / "leaves.cancelled").exists, True)
        assert (await ask(box, "repeat", text="a", times=2)).text == "aa"
        assert not stays.done()
        stays.cancel()
        await asyncio.wait({stays})


async def test_results_of_every_kind(moods: Server) -> None:
    async with connected(moods) as box:
        assert await ask(box, "fail", text="s3cret") == ToolOutput("Error executing tool fail", is_error=True)
        assert (await ask(box, "naïve name / with.signs", text="¿日本?")).text == "«¿日本?» 👋"
        assert (await ask(box, "picture")).text == "[image: image/png, 6 bytes]\n[resource a: file:///a]\nthe note"
        assert (await ask(box, "repeat", text="ä", times=1_000_000)).text == "ä" * 1_000_000


async def test_answer_that_is_too_large_costs_the_one_call() -> None:
    with Remote(MOODS, "--http", "--json") as remote:
        async with connected(server(url=remote.url)) as box:
            with pytest.raises(Exception, match="larger than 16,777,216 bytes"):
                await ask(box, "repeat", text="a", times=20_000_000)
            assert (await ask(box, "repeat", text="a", times=2_000_000)).text == "a" * 2_000_000


async def test_changed_list_is_read_again(moods: Server, request: pytest.FixtureRequest) -> None:
    seen, name = Seen(), f"new_{request.node.callspec.id}"
    async with connected(moods, seen) as box:
        await soon(lambda: len(seen.lists), 1)

        await ask(box, "grow", name=name)
        await soon(lambda: len(seen.lists), 2)
        assert set(seen.lists[1]) - set(seen.lists[0]) == {name}

        await ask(box, "shrink", name=name)
        await soon(lambda: len(seen.lists), 3)
        assert seen.lists[2] == seen.lists[0]


# --- processes -------------------------------------------------------------------------------------------------------


async def test_process_has_its_environment_and_runs_in_the_data_folder(settings: Any, tmp_path: Path) -> None:
    settings.DATA_DIR = tmp_path
    async with connected(stdio(environment={"API_KEY": "s3cret"})) as box:
        assert (await ask(box, "environment", name="API_KEY")).text == f"s3cret {tmp_path}"
        assert (await ask(box, "environment", name="DJANGO_SETTINGS_MODULE")).text == f"None {tmp_path}"


async def test_stderr_is_logged_within_bounds() -> None:
    with capture_logs() as logs:
        async with connected(stdio()) as box:
            await ask(box, "babble", lines=2000)
            await soon(lambda: box._observed.said, "line 1999")
    assert [one["line"] for one in logs if one["event"] == "mcp_server_stderr"] == [f"line {n}" for n in range(50)]


async def test_what_a_process_prints_beside_its_messages_does_no_harm() -> None:
    async with connected(stdio()) as box:
        pid = await ask(box, "pid")
        assert await ask(box, "litter") == pid
        assert await ask(box, "pid") == pid


async def test_line_that_is_too_long_costs_the_one_call_and_little_memory(caplog: pytest.LogCaptureFixture) -> None:
    seen = Seen()
    async with connected(stdio(), seen) as box:
        assert len((await ask(box, "long", length=2_000_000)).text) == 2_000_000
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        lost = asyncio.create_task(ask(box, "long", length=200_000_000))
        await soon(lambda: "Failed to parse JSONRPC message" in caplog.text, True, within=60)
        assert (await ask(box, "pid")).text
        assert not lost.done()
        lost.cancel()
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kilobytes
    assert seen.states == ["connected"]


async def test_flood_of_notices_does_not_have_the_list_read_again_and_again() -> None:
    seen = Seen()
    async with connected(stdio(), seen) as box:
        await soon(lambda: len(seen.lists), 1)
        began = time.monotonic()
        while time.monotonic() - began < 3:
            await ask(box, "flood", times=100)
        assert len(seen.lists) <= 5  # after 0.3, 0.6, 1.2 seconds
        await soon(lambda: len(seen.lists) > 1, True)


async def test_every_page_of_a_list_is_read() -> None:
    seen = Seen()
    async with connected(stdio(BARE, "--pages"), seen):
        await soon(lambda: seen.lists, [["pid", "environment", "linger", "crash", "babble"]])


async def test_closing_leaves_no_process() -> None:
    async with connected(stdio()) as box:
        pid = int((await ask(box, "pid")).text)
        assert is_alive(pid)
    assert not is_alive(pid)


@pytest.mark.parametrize(
    ("allowed", "starts"), [(["*"], True), ([], False), ([f"{sys.executable} */fakes/*"], True), (["npx *"], False)]
)
async def test_only_commands_that_the_settings_allow_start(settings: Any, allowed: list[str], starts: bool) -> None:
    settings.GATEWAY_MCP_STDIO = allowed
    async with connected(stdio()) as box:
        if starts:
            assert not (await ask(box, "pid")).is_error
        else:
            with pytest.raises(ServerDown, match=r"^GATEWAY_MCP_STDIO does not allow its command"):
                await ask(box, "pid")


async def test_server_that_knows_no_handshake_is_spoken_to_in_the_newer_protocol() -> None:
    seen = Seen()
    async with connected(stdio(BARE, "--modern"), seen) as box:
        before = (await ask(box, "pid")).text
        assert box.protocol == "2026-07-28"
        await soon(lambda: seen.lists, [["pid", "environment", "linger", "crash", "babble"]])
        box.look()  # it knows no ping either
        await asyncio.sleep(0.2)
        assert (await ask(box, "pid")).text == before
        assert seen.states == ["connected"]


# --- servers that die ------------------------------------------------------------------------------------------------


async def test_killed_process_is_noticed_and_replaced() -> None:
    seen = Seen()
    async with connected(stdio(), seen) as box:
        before = int((await ask(box, "pid")).text)
        os.kill(before, signal.SIGKILL)
        await soon(lambda: (len(seen.states) > 1, seen.states[-1]), (True, "connected"))
        assert int((await ask(box, "pid")).text) != before


async def test_call_that_kills_the_server_is_not_repeated(tmp_path: Path) -> None:
    seen = Seen()
    async with connected(stdio(), seen) as box:
        with pytest.raises(Exception, match="Connection closed"):
            await ask(box, "crash", path=str(tmp_path / "calls"))
        await soon(lambda: seen.states[-1], "connected")
        assert (tmp_path / "calls").read_text() == "called\n"


async def test_restarted_remote_server_is_connected_again(remotes: dict[str, Remote]) -> None:
    first = Remote(FAKE, "--transport", "http")
    first.start()
    seen = Seen()
    async with connected(server(url=first.url), seen) as box:
        await ask(box, "pid")
        first.stop(signal.SIGKILL)
        box.look()
        await soon(lambda: seen.states[-1], "down")
        with pytest.raises(ServerDown, match=r"cannot be reached|closed the connection"):
            await ask(box, "pid")

        with Remote(FAKE, "--transport", "http", "--port", str(first.port)) as second:
            await soon(lambda: seen.states[-1], "connected", within=20)
            assert int((await ask(box, "pid")).text) == second.pid


async def test_process_that_hangs_is_replaced() -> None:
    seen = Seen()
    async with connected(stdio(), seen, ping_patience=0.3) as box:
        before = int((await ask(box, "pid")).text)
        os.kill(before, signal.SIGSTOP)
        box.look()
        await soon(lambda: (len(seen.states) > 1, seen.states[-1]), (True, "connected"), within=20)
        assert not is_alive(before)


# --- servers that cannot be had --------------------------------------------------------------------------------------


async def reason(value: Server) -> str:
    async with connected(value) as box:
        with pytest.raises(ServerDown) as caught:
            await ask(box, "add", a=1, b=1)
        return str(caught.value)


@pytest.fixture
async def answering() -> AsyncIterator[str]:
    """A web server that answers `/<status>` with that status, and `/page` with a web page."""

    async def answer(request: web.Request) -> web.Response:
        what = request.match_info["what"]
        return (
            web.Response(text="<html>", content_type="text/html") if what == "page" else web.Response(status=int(what))
        )

    app = web.Application()
    app.router.add_route("*", "/{what}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@pytest.mark.parametrize("transport", [Transport.HTTP, Transport.SSE])
@pytest.mark.parametrize(
    ("path", "headers", "told"),
    [
        ("/401", {}, "answered 401. It wants a token: add an Authorization header."),
        ("/401", {"authorization": "Bearer x"}, "answered 401. Its token is wrong or expired."),
        ("/404", {}, "answered 404. Check the URL: MCP servers often live at /mcp."),
        ("/503", {}, "answered 503. It is not ready, or not deployed."),
        ("/500", {}, "answered 500. Look into the log of that server."),
    ],
)
async def test_refusal_is_told_with_its_remedy(
    answering: str, transport: Transport, path: str, headers: dict[str, str], told: str
) -> None:
    assert (
        await reason(server(transport=transport, url=answering + path, headers=headers)) == f"{answering}{path} {told}"
    )


async def test_web_page_is_no_mcp_server(answering: str) -> None:
    assert (await reason(server(url=f"{answering}/page"))).startswith("It refused: Unexpected content type: text/html")


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://127.0.0.1:9/mcp", "http://127.0.0.1:9/mcp cannot be reached"),
        ("http://user:pw@127.0.0.1:9/mcp?key=s3cret", "http://127.0.0.1:9/mcp cannot be reached"),
        ("http://no-such-host.invalid/mcp", "http://no-such-host.invalid/mcp cannot be reached"),
        ("http://[::1/mcp", ""),
        ("gopher://x/mcp", "gopher://x/mcp is no usable URL"),
    ],
)
@pytest.mark.parametrize("transport", [Transport.HTTP, Transport.SSE])
async def test_bad_address_is_told_without_secrets(url: str, told: str, transport: Transport) -> None:
    said = await reason(server(transport=transport, url=url))
    assert said.startswith(told)
    assert "s3cret" not in said


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (("no-such-command",), "The command 'no-such-command' cannot be started: No such file or directory."),
        (
            (sys.executable, "-c", "raise OSError('no disk')"),
            "The process ended before it answered, or speaks no MCP. It said: OSError: no disk",
        ),
    ],
)
async def test_process_that_does_not_start_is_told(command: tuple[str, ...], told: str) -> None:
    assert await reason(server(transport=Transport.STDIO, command=command)) == told


@pytest.mark.parametrize("kind", ["stdio", "http", "sse"])
async def test_server_that_hangs_is_given_up_in_time(settings: Any, kind: str) -> None:
    settings.GATEWAY_MCP_CONNECT_TIMEOUT = 0.5
    listening = await asyncio.start_server(lambda _reader, _writer: asyncio.sleep(60), "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    mute = (sys.executable, "-c", "import time; time.sleep(60)")
    value = server(transport=Transport(kind), url=f"http://127.0.0.1:{port}/", command=mute if kind == "stdio" else ())
    began = time.monotonic()

    assert await reason(value) == "It did not answer within 0.5 s. Is it overloaded, or no MCP server?"

    assert time.monotonic() - began < 30
    listening.close()


async def test_attempts_come_less_and_less_often() -> None:
    times: list[float] = []

    class Timed(Seen):
        def state(self, connection: Connection) -> None:
            super().state(connection)
            if connection.state == "connecting":
                times.append(time.monotonic())

    async with connected(server(url="http://127.0.0.1:9/mcp"), Timed()) as box:
        await soon(lambda: len(times) >= 3, True)
        assert times[1] - times[0] > 0.5
        assert times[2] - times[1] > 1
        await soon(lambda: box.state, "down")
        assert box.state == "down"


# --- closing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["stdio", "http"])
async def test_retiring_lets_calls_end(remotes: dict[str, Remote], tmp_path: Path, kind: str) -> None:
    async with connected(stdio() if kind == "stdio" else server(url=remotes["http"].url)) as box:
        call = asyncio.create_task(ask(box, "linger", path=str(tmp_path / "go")))
        await soon((tmp_path / "go.started").exists, True)

        box.retire()
        await asyncio.sleep(0.1)
        assert not box.is_closed
        (tmp_path / "go").touch()

        assert not (await call).is_error
        await soon(lambda: box.is_closed, True)


async def test_loop_that_ends_takes_the_process_along() -> None:
    """As with `asyncio.run` in a thread: nobody has closed it."""

    async def main() -> int:
        seen = Seen()
        box = Connection(stdio(), on_state=seen.state, on_tools=seen.tools)
        return int((await ask(box, "pid")).text)

    pid = await asyncio.to_thread(asyncio.run, main())
    assert not is_alive(pid)
