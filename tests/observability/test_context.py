"""What log lines carry, and what they must not: the facts of another run, or of one that is over."""

import asyncio
import threading
from typing import Any

import pytest
from celery import Celery

from apps.observability import celery_lines, context
from apps.observability.logs import surrounded

celery_lines.install()
celery = Celery("tests", broker="memory://", backend="cache+memory://")


@celery.task(name="tests.look")
def look() -> dict[str, Any]:
    return dict(context.current())


@pytest.fixture(autouse=True)
def _nothing_bound() -> None:
    context.begin()


async def test_facts_reach_tasks_and_threads_of_asyncio() -> None:
    context.bind(request_id="r1", key_id=7)

    inner = await asyncio.create_task(asyncio.to_thread(lambda: dict(context.current())))

    assert inner == {"request_id": "r1", "key_id": 7}


async def test_request_begins_with_nothing_of_the_one_before_on_its_connection() -> None:
    context.begin(request_id="r1", key_id=7)
    context.begin(request_id="r2")

    assert context.current() == {"request_id": "r2"}


async def test_task_that_outlives_its_run_keeps_none_of_its_facts() -> None:
    told: list[dict[str, Any]] = []
    is_over = asyncio.Event()

    async def left_behind() -> None:
        told.append(dict(context.current()))
        await is_over.wait()
        told.append(dict(context.current()))

    async def run() -> "asyncio.Task[None]":
        context.begin(request_id="r1")
        context.begin_run("run-1", agent="default/a", module_path="/a/agent.py", stage="execute", trace_id="0" * 32)
        context.bind(upstream="llm", model="m")
        task = asyncio.create_task(left_behind())
        await asyncio.sleep(0)
        return task

    task = await asyncio.create_task(run())
    await asyncio.sleep(0)
    is_over.set()
    await task

    assert told[0] == {
        "request_id": "r1", "run_id": "run-1", "agent": "default/a", "module_path": "/a/agent.py", "stage": "execute",
        "trace_id": "0" * 32, "upstream": "llm", "model": "m",
    }  # fmt: skip
    assert told[1] == {"request_id": "r1"}


async def test_runs_at_the_same_time_do_not_see_each_other() -> None:
    async def run(number: int) -> str:
        context.begin_run(f"run-{number}")
        await asyncio.sleep(0)
        found: str = context.current()["run_id"]
        return found

    assert await asyncio.gather(*map(run, range(5))) == [f"run-{number}" for number in range(5)]


def test_line_says_itself_goes_before_what_surrounds_it() -> None:
    context.bind(agent="default/a", key_id=7)

    line = surrounded(None, "info", {"agent": "default/b"})

    assert line.items() >= {"agent": "default/b", "key_id": 7}.items()


def test_bound_facts_end_with_the_block() -> None:
    with context.bound(stage="discover"):
        assert context.current() == {"stage": "discover"}
    assert context.current() == {}


def test_celery_task_has_its_own_facts_and_leaves_its_caller_theirs() -> None:
    context.bind(request_id="r1")

    found = look.apply(task_id="t1").get()

    assert found == {"task_id": "t1", "task": "tests.look"}
    assert context.current() == {"request_id": "r1"}


def test_thread_of_its_own_has_no_facts() -> None:
    context.bind(run_id="r1")
    found: list[Any] = []

    thread = threading.Thread(target=lambda: found.append(dict(context.current())))
    thread.start()
    thread.join()

    assert found == [{}]
