"""Calls through the connections of a process, as tools are invoked."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from apps.core import live_config
from apps.observability.metrics import exposition
from apps.tools.invoke import invoke
from apps.tools.mcp import pool
from apps.tools.mcp.calling import call
from apps.tools.models import Kind, McpServer, Tool, Transport
from apps.tools.tool import CallFailed, McpCall, ToolOutput
from apps.tools.tool import Tool as Lent
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


async def failure(*arguments: Any, timeout: float = 10) -> tuple[str, str, bool]:  # noqa: ASYNC109
    """Of a call: what the model is told, the outcome, and whether it may be tried again where that is safe."""
    with pytest.raises(CallFailed) as failed:
        await call("box", *arguments, timeout=timeout)
    return failed.value.message, failed.value.outcome, failed.value.may_retry


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
    told = "its server did not answer within 0.3 s. It may or may not have done its work."
    assert await failure("linger", {"path": str(tmp_path / "go")}, timeout=0.3) == (told, "timeout", False)
    assert await pid()


async def test_server_has_a_time_out_of_its_own(change: Change, tmp_path: Path) -> None:
    await change(timeout=0.4)
    await soon_pid(bool)
    told, *_ = await failure("linger", {"path": str(tmp_path / "go")}, timeout=60)
    assert told.startswith("its server did not answer within 0.4 s.")


async def test_call_that_the_server_died_of_is_told_and_not_repeated(change: Change, tmp_path: Path) -> None:
    await change()
    before = await pid()
    told = "the connection to its server 'box' broke while it ran. It may or may not have done its work."
    assert await failure("crash", {"path": str(tmp_path / "calls")}) == (told, "unreachable", True)
    await soon_pid(lambda found: found not in (0, before))
    assert (tmp_path / "calls").read_text() == "called\n"


async def soon_pid(is_wanted: Callable[[int], bool]) -> int:
    async with asyncio.timeout(15):
        while True:
            with suppress(CallFailed):
                if is_wanted(found := await pid()):
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
    why = "The command 'no-such-command' cannot be started: No such file or directory."
    said = f"its server 'box' cannot be used. {why}", "unreachable", True
    assert await failure("pid", {}) == said
    began = time.monotonic()
    assert await failure("pid", {}) == said
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("is_idempotent", [True, False])
async def test_call_that_the_server_died_of_is_repeated_where_it_may_be(
    change: Change, tmp_path: Path, is_idempotent: bool
) -> None:
    await change()
    await pid()
    crash = Lent(
        "box_crash",
        Kind.MCP,
        "",
        {},
        "gateway.mcp.box",
        McpCall("box", "crash"),
        is_idempotent=is_idempotent,
        retries=1,
    )

    output = await invoke(crash, json.dumps({"path": str(tmp_path / "calls")}))

    assert (output.is_error, output.outcome) == (True, "unreachable")
    assert (tmp_path / "calls").read_text() == "called\n" * (2 if is_idempotent else 1)


async def test_what_a_process_says_at_its_end_is_told_and_logged_without_secrets(change: Change) -> None:
    says = "import os, sys; sys.exit('refused: ' + os.environ['BOX_TOKEN'])"
    with capture_logs() as lines:
        await change(command=[sys.executable, "-c", says], environment={"BOX_TOKEN": "token-of-the-box"})
        told, *_ = await failure("pid", {})

    assert told.endswith("It said: refused: •••")
    assert "refused: •••" in [line["line"] for line in lines if line["event"] == "mcp_server_stderr"]
    assert "token-of-the-box" not in str(lines)


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
    told, *_ = await failure("pid", {})
    assert told == "its server 'box' cannot be used. It is switched off, or not there any more."
    await soon(lambda: is_alive(before), False)


async def test_hung_server_holds_up_nobody_for_longer_than_the_call_may_take(change: Change) -> None:
    await change()
    before = await pid()
    os.kill(before, signal.SIGSTOP)
    failed = await asyncio.gather(*(failure("pid", {}, timeout=0.5) for _ in range(30)))
    assert {outcome for _, outcome, _ in failed} == {"timeout"}
    os.kill(before, signal.SIGCONT)
    assert await soon_pid(bool)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
