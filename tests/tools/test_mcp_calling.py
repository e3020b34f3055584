"""Calls through the connections of a process, as tools are invoked."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from apps.core import live_config
from apps.observability.metrics import exposition
from apps.tools.mcp import pool
from apps.tools.mcp.calling import call
from apps.tools.models import McpServer, Tool, Transport
from apps.tools.tool import ToolOutput
from tests.tools.mcp_parts import BARE, FAKE, Remote, soon

pytestmark = pytest.mark.django_db(transaction=True)

Change = Callable[..., Any]


@pytest.fixture
async def change() -> AsyncIterator[Change]:
    """Adds or changes the server `box`, as an operator does beside the gateway; it is in force when that returns."""

    def save(**fields: Any) -> None:
        row = McpServer.objects.filter(slug="box").first() or McpServer(
            slug="box", transport=Transport.STDIO, command=[sys.executable, str(BARE)]
        )
        for name, value in fields.items():
            setattr(row, name, value)
        row.save()
        live_config.refresh()

    live_config.forget()
    yield lambda **fields: asyncio.to_thread(save, **fields)
    await pool.close()
    live_config.forget()


async def pid() -> int:
    return int((await call("box", "pid", {}, timeout=10)).text)


async def test_first_call_connects_and_stores_the_tools(change: Change) -> None:
    await change()
    assert (await call("box", "environment", {"name": "NONE"}, timeout=10)).text.startswith("None ")

    def stored() -> tuple[list[str], str, str]:
        row = McpServer.objects.get()
        return list(Tool.objects.values_list("name", flat=True)), row.state, row.protocol

    expected = ["box_babble", "box_crash", "box_environment", "box_linger", "box_pid"], "connected", "2025-11-25"
    async with asyncio.timeout(10):
        while await asyncio.to_thread(stored) != expected:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert b'gateway_mcp_server_state{server="box",state="connected"} 1.0' in exposition()[0]


async def test_secret_that_comes_back_is_not_told(change: Change) -> None:
    await change(environment={"BOX_TOKEN": "token-of-the-box", "COLOUR": "vermilion"})

    assert (await call("box", "environment", {"name": "BOX_TOKEN"}, timeout=10)).text.split()[0] == "•••"
    assert (await call("box", "environment", {"name": "COLOUR"}, timeout=10)).text.split()[0] == "vermilion"


async def test_fifty_first_calls_start_one_process(change: Change) -> None:
    await change()
    assert len({await one for one in asyncio.as_completed([pid() for _ in range(50)])}) == 1


async def test_late_call_is_given_up(change: Change, tmp_path: Path) -> None:
    await change()
    await pid()
    assert await call("box", "linger", {"path": str(tmp_path / "go")}, timeout=0.3) == ToolOutput(
        "The tool 'linger' did not answer within 0.3 s. It may or may not have done its work.", is_error=True
    )
    assert await pid()


async def test_server_has_a_time_out_of_its_own(change: Change, tmp_path: Path) -> None:
    await change(timeout=0.4)
    await pid()
    said = await call("box", "linger", {"path": str(tmp_path / "go")}, timeout=60)
    assert said.text.startswith("The tool 'linger' did not answer within 0.4 s.")


async def test_call_that_the_server_died_of_is_told_and_not_repeated(change: Change, tmp_path: Path) -> None:
    await change()
    before = await pid()
    assert await call("box", "crash", {"path": str(tmp_path / "calls")}, timeout=10) == ToolOutput(
        "The connection to the tool's server 'box' broke while 'crash' ran. It may or may not have done its work.",
        is_error=True,
    )
    await soon_pid(lambda found: found not in (0, before))
    assert (tmp_path / "calls").read_text() == "called\n"


async def soon_pid(is_wanted: Callable[[int], bool]) -> int:
    async with asyncio.timeout(15):
        while True:
            said = await call("box", "pid", {}, timeout=10)
            if is_wanted(found := 0 if said.is_error else int(said.text)):
                return found
            await asyncio.sleep(0.05)


async def test_restarted_server_that_nobody_saw_away_gets_the_call_in_a_new_session(change: Change) -> None:
    first = Remote(FAKE, "--transport", "http")
    await asyncio.to_thread(first.start)
    await change(transport=Transport.HTTP, url=first.url)
    assert await pid() == first.pid
    first.stop(signal.SIGKILL)
    with Remote(FAKE, "--transport", "http", "--port", str(first.port)) as second:
        assert await pid() == second.pid


async def test_server_that_is_down_fails_calls_at_once(change: Change) -> None:
    await change(command=["no-such-command"])
    said = ToolOutput(
        "The tool's server 'box' cannot be used: The command 'no-such-command' cannot be started: "
        "No such file or directory.",
        is_error=True,
    )
    assert await call("box", "pid", {}, timeout=10) == said
    began = time.monotonic()
    assert await call("box", "pid", {}, timeout=10) == said
    assert time.monotonic() - began < 5


async def test_changed_server_is_connected_anew_and_calls_under_way_end_on_the_old_one(
    change: Change, tmp_path: Path
) -> None:
    await change()
    before = await pid()
    under_way = asyncio.create_task(call("box", "linger", {"path": str(tmp_path / "go")}, timeout=20))
    await soon((tmp_path / "go.started").exists, True)

    await change(environment={"NEW": "yes"})

    assert (await call("box", "environment", {"name": "NEW"}, timeout=10)).text.startswith("yes ")
    assert await pid() != before
    (tmp_path / "go").touch()
    assert await under_way == ToolOutput(str(before))
    await soon(lambda: is_alive(before), False)


@pytest.mark.parametrize("how", ["disabled", "deleted"])
async def test_server_that_is_taken_away_is_closed(change: Change, how: str) -> None:
    await change()
    before = await pid()
    if how == "disabled":
        await change(enabled=False)
    else:
        await asyncio.to_thread(McpServer.objects.all().delete)
        await asyncio.to_thread(live_config.refresh)
    assert await call("box", "pid", {}, timeout=10) == ToolOutput(
        "The tool's server 'box' cannot be used: it is switched off, or not there any more.", is_error=True
    )
    await soon(lambda: is_alive(before), False)


async def test_hung_server_holds_up_nobody_for_longer_than_the_call_may_take(change: Change) -> None:
    await change()
    before = await pid()
    os.kill(before, signal.SIGSTOP)
    said = await asyncio.gather(*(call("box", "pid", {}, timeout=0.5) for _ in range(30)))
    assert {one.is_error for one in said} == {True}
    os.kill(before, signal.SIGCONT)
    assert await soon_pid(bool)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
