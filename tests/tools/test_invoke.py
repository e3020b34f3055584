"""The bounds of every call: number, time, attempts, size; and what is kept of it."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from apps.tools import answers, lanes
from apps.tools.answers import MOST_ANSWERS, Answers
from apps.tools.invoke import invoke
from apps.tools.local import find
from apps.tools.models import Kind
from apps.tools.tool import LocalCall, Tool, ToolOutput
from tests.fakes.tool_api import ToolApi
from tests.tools.conftest import http_tool, local_tool, until

SOURCE = """
import asyncio
import asyncio
import contextlib
import threading

started = threading.Semaphore(0)
release = threading.Event()
calls = 0


def blocks() -> str:
    started.release()
    release.wait(30)
    return "done"


async def insists() -> None:
    while not release.is_set():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0.01)


def half() -> str:
    return "¿Qué? \\ud83d"


def long_text(n: int) -> str:
    return "é" * n


def counts(a: int = 0) -> int:
    global calls
    calls += 1
    return calls


def fails() -> None:
    global calls
    calls += 1
    raise RuntimeError
"""


@pytest.fixture
def module(write_module: Callable[[str, str], str]) -> Iterator[Any]:
    import importlib
    import sys

    name = write_module("lent_bounds", SOURCE)
    importlib.invalidate_caches()
    local_module = importlib.import_module(name)
    local_module.calls = 0
    local_module.release.clear()
    for function in ("blocks", "counts", "fails", "half", "insists", "long_text"):
        find(f"{name}.{function}")  # as a server does when it starts: the import would count as time of the call
    yield local_module
    local_module.release.set()
    assert sys.modules[name] is local_module


def tasks() -> set[asyncio.Task[Any]]:
    return {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}


# --- number ----------------------------------------------------------------------------------------------------------


async def test_no_more_calls_at_once_than_the_tool_may_have(api: ToolApi) -> None:
    tool = http_tool(f"{api.url}/held", max_concurrency=2)
    calls = [asyncio.create_task(invoke(tool, "{}")) for _ in range(5)]
    await until(lambda: api.active == 2 and lanes.lane_of(tool).waiting == 3)

    api.let_go.set()

    assert [one.text for one in await asyncio.gather(*calls)] == ['"let go"'] * 5
    assert (api.most_active, lanes.lane_of(tool).is_idle) == (2, True)


async def test_call_that_waits_too_long_for_its_turn_is_told_so(api: ToolApi) -> None:
    held = asyncio.create_task(invoke(http_tool(f"{api.url}/held", max_concurrency=1), "{}"))
    await until(lambda: api.active == 1)

    told = await invoke(http_tool(f"{api.url}/held", max_concurrency=1, timeout=0.2), "{}")

    assert told.text == "The tool 'asked' failed: no other call of it ended for 0.2 s."
    api.let_go.set()
    assert (await held).is_error is False


async def test_slots_outlive_an_edit_that_does_not_change_their_number(api: ToolApi) -> None:
    first = http_tool(f"{api.url}/held", max_concurrency=1)
    held = asyncio.create_task(invoke(first, "{}"))
    await until(lambda: api.active == 1)

    edited, wider = http_tool(f"{api.url}/echo", max_concurrency=1), http_tool(f"{api.url}/echo", max_concurrency=2)

    assert lanes.lane_of(edited).is_idle is False
    assert lanes.lane_of(wider).is_idle is True
    api.let_go.set()
    await held


async def test_cancelled_call_leaves_no_task_slot_or_connection(api: ToolApi) -> None:
    tool = http_tool(f"{api.url}/hang", max_concurrency=1)
    before = tasks()
    call = asyncio.create_task(invoke(tool, "{}"))
    waiting = asyncio.create_task(invoke(tool, "{}"))
    await until(lambda: api.active == 1 and lanes.lane_of(tool).waiting == 1)

    waiting.cancel()
    call.cancel()
    ended = await asyncio.gather(call, waiting, return_exceptions=True)
    await until(lambda: api.left == 1 and api.active == 0)

    assert [type(one) for one in ended] == [asyncio.CancelledError] * 2
    assert lanes.lane_of(tool).is_idle is True
    await until(lambda: tasks() <= before)


@pytest.mark.parametrize(
    ("function", "seconds"),
    [
        pytest.param("blocks", 1, id="a thread cannot be stopped"),
        pytest.param("insists", 0.2, id="it goes on after its cancellation"),
    ],
)
async def test_function_that_does_not_stop_holds_its_slot_and_no_run(
    module: Any, function: str, seconds: float
) -> None:
    tool = local_tool(f"lent_bounds.{function}", max_concurrency=1, timeout=seconds)

    told = await invoke(tool, "{}")

    assert told.text == f"The tool 'called' failed: it did not answer within {seconds:g} s."
    assert lanes.lane_of(tool).is_idle is False
    module.release.set()
    await until(lambda: lanes.lane_of(tool).is_idle)


async def test_half_a_character_of_a_server_that_cuts_texts_is_no_text_that_json_cannot_carry(module: Any) -> None:
    assert (await invoke(local_tool("lent_bounds.half"), "{}")).text == "¿Qué? ?"


async def test_sync_function_does_not_stop_the_event_loop(module: Any) -> None:
    call = asyncio.create_task(invoke(local_tool("lent_bounds.blocks"), "{}"))
    await asyncio.to_thread(module.started.acquire, timeout=10)

    assert (await invoke(local_tool("lent_bounds.counts", name="other"), "{}")).text == "1"
    module.release.set()
    assert (await call).text == "done"


# --- attempts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("failures", "fields", "text", "requests"),
    [
        (2, {"is_idempotent": True}, '"at last"', 3),
        (3, {"is_idempotent": True}, "The tool 'asked' failed: 127.0.0.1 answered 503 Service Unavailable.", 3),
        (1, {"is_idempotent": True, "retries": 0}, None, 1),
        (1, {"is_idempotent": False}, None, 1),
        (1, {"is_idempotent": False, "method": "POST"}, None, 1),
    ],
)
async def test_only_what_may_be_repeated_is(
    api: ToolApi, failures: int, fields: dict[str, Any], text: str | None, requests: int
) -> None:
    api.failures = failures

    told = await invoke(http_tool(f"{api.url}/flaky", **fields), "{}")

    assert (told.text if text else None, len(api.seen)) == (text, requests)


@pytest.mark.parametrize("path", ["/status/400", "/status/404", "/status/501", "/redirect", "/status/403"])
async def test_failure_that_will_stay_is_not_repeated(api: ToolApi, path: str) -> None:
    await invoke(http_tool(f"{api.url}{path}", is_idempotent=True), "{}")

    assert len(api.seen) == 1


async def test_no_attempt_is_waited_for_beyond_the_time_out(api: ToolApi) -> None:
    told = await invoke(http_tool(f"{api.url}/later", is_idempotent=True), "{}")

    assert told.text == "The tool 'asked' failed: 127.0.0.1 answered 503 Service Unavailable: In an hour"
    assert len(api.seen) == 1


async def test_function_that_crashed_is_tried_again_where_it_may(module: Any) -> None:
    await invoke(local_tool("lent_bounds.fails", is_idempotent=True, retries=1), "{}")

    assert module.calls == 2


# --- size ------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("module")
@pytest.mark.parametrize(("characters", "most"), [(100, 200), (101, 200), (101, 201), (5000, 201), (5000, 1000)])
async def test_long_output_is_cut_between_characters_and_says_so(characters: int, most: int) -> None:
    tool = local_tool("lent_bounds.long_text", max_output_bytes=most)

    told = await invoke(tool, json.dumps({"n": characters}))

    remark = f"\n[Cut here: the gateway gives at most {most} bytes.]"
    kept = (most - len(remark)) // 2
    assert told.text == ("é" * characters if 2 * characters <= most else "é" * kept + remark)


async def test_long_failure_is_cut_too(api: ToolApi) -> None:
    told = await invoke(http_tool(f"{api.url}/status/404", name="n" * 64, max_output_bytes=100), "{}")

    assert (len(told.text), told.text[-30:]) == (100, "gateway gives at most 100 bytes.]"[-30:])


# --- answers that are kept -------------------------------------------------------------------------------------------


async def test_equal_call_gets_the_kept_answer(module: Any) -> None:
    tool = local_tool("lent_bounds.counts", cache_seconds=60)

    told = [await invoke(tool, text) for text in ('{"a": 1}', ' {"a":1} ', '{"a": 2}', '{"a": 1}')]

    assert [one.text for one in told] == ["1", "1", "2", "1"]


async def test_without_cache_seconds_each_call_is_made(module: Any) -> None:
    told = [await invoke(local_tool("lent_bounds.counts"), "{}") for _ in range(2)]

    assert [one.text for one in told] == ["1", "2"]


async def test_edited_tool_is_another_one(module: Any) -> None:
    tools = [local_tool("lent_bounds.counts", cache_seconds=seconds) for seconds in (60, 61)]

    assert [(await invoke(tool, "{}")).text for tool in tools] == ["1", "2"]


async def test_kept_answer_ends(module: Any) -> None:
    tool = local_tool("lent_bounds.counts", cache_seconds=0.1)
    await invoke(tool, "{}")
    await asyncio.sleep(0.15)

    assert (await invoke(tool, "{}")).text == "2"


async def test_failures_are_not_kept(api: ToolApi) -> None:
    api.failures = 1
    tool = http_tool(f"{api.url}/flaky", cache_seconds=60)

    assert [(await invoke(tool, "{}")).is_error for _ in range(3)] == [True, False, False]
    assert len(api.seen) == 2


async def test_equal_calls_at_once_make_one(api: ToolApi) -> None:
    tool = http_tool(f"{api.url}/held", cache_seconds=60)
    calls = [asyncio.create_task(invoke(tool, "{}")) for _ in range(5)]
    await until(lambda: api.active == 1)
    calls[0].cancel()  # the others go on waiting for what it began
    await asyncio.gather(calls[0], return_exceptions=True)

    api.let_go.set()

    assert [one.text for one in await asyncio.gather(*calls[1:])] == ['"let go"'] * 4
    assert len(api.seen) == 1


async def test_call_for_which_nobody_waits_ends(api: ToolApi) -> None:
    tool = http_tool(f"{api.url}/held", cache_seconds=60)
    before = tasks()
    calls = [asyncio.create_task(invoke(tool, "{}")) for _ in range(3)]
    await until(lambda: api.active == 1)

    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    await until(lambda: api.left == 1)

    assert lanes.lane_of(tool).is_idle is True
    await until(lambda: tasks() <= before)
    api.let_go.set()
    assert (await invoke(tool, "{}")).text == '"let go"'


async def test_failure_of_a_shared_call_is_told_to_all(api: ToolApi) -> None:
    tool = http_tool(f"{api.url}/hang", cache_seconds=60, timeout=1)

    told = await asyncio.gather(*[invoke(tool, "{}") for _ in range(3)])

    assert [one.text for one in told] == ["The tool 'asked' failed: it did not answer within 1 s."] * 3
    assert len(api.seen) == 1


def kept(tool: Tool, store: Answers, number: int, size: int) -> None:
    store._keep(answers._key(tool, str(number).encode()), tool, ToolOutput("x" * size))


async def test_kept_answers_are_bounded_in_number_and_bytes() -> None:
    tool = local_tool("x.y", cache_seconds=60)
    many, large = Answers(), Answers()
    for number in range(MOST_ANSWERS + 5):
        kept(tool, many, number, 10)
    for number in range(20):
        kept(tool, large, number, 1024 * 1024)
    kept(tool, large, 99, 17 * 1024 * 1024)

    found = [many.find(tool, str(number).encode()) is not None for number in (0, 4, 5, MOST_ANSWERS + 4)]
    assert found == [False, False, True, True]
    assert (len(large._kept), large._bytes) == (15, sum(one.size for one in large._kept.values()))
    assert large.find(tool, b"99") is None


# --- what is told and kept of it -------------------------------------------------------------------------------------


async def test_unknown_exception_is_told_in_one_sentence() -> None:
    odd = Tool("odd", Kind.HTTP, "", {"type": "object"}, "gateway.http", None)  # type: ignore[arg-type]

    assert (await invoke(odd, "{}")).text == "The tool 'odd' failed unexpectedly. Go on without it."


async def test_schema_that_is_none_does_not_end_the_run() -> None:
    broken = Tool("odd", Kind.LOCAL, "", {"type": 3}, "gateway.local.x", LocalCall("x.y"))

    assert (await invoke(broken, "{}")).is_error is True


@pytest.mark.usefixtures("module")
async def test_output_says_what_came_of_the_call() -> None:
    tool = local_tool("lent_bounds.counts", name="counted", cache_seconds=60, schema=A_NUMBER)

    outputs = [await invoke(tool, arguments) for arguments in ('{"a": 1}', '{"a": 1}', '{"a": "x"}', "{")]

    assert [one.outcome for one in outputs] == ["", "cached", "invalid_arguments", "invalid_arguments"]


A_NUMBER = {"type": "object", "properties": {"a": {"type": "integer"}}}


async def test_calls_of_two_event_loops_do_not_share_anything(module: Any) -> None:
    tool = local_tool("lent_bounds.counts", cache_seconds=60)
    told = [await invoke(tool, "{}")]

    other = threading.Thread(target=lambda: told.append(asyncio.run(invoke(tool, "{}"))))
    other.start()
    await asyncio.to_thread(other.join)

    assert [one.text for one in told] == ["1", "2"]
