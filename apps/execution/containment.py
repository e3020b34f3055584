"""An agent's code may call sys.exit(); that must not end the gateway.

asyncio lets SystemExit and KeyboardInterrupt out of a task's step and so out of the event loop, which would cut every
other client. The SDK runs tools, guardrails and instructions in tasks of its own, so the only place that sees them all
is the loop's task factory.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any

from apps.upstreams.calls import current_calls


class Exited(Exception):
    """Code inside a run called sys.exit() or raised KeyboardInterrupt, which is its cause."""


def contain(loop: asyncio.AbstractEventLoop) -> None:
    """Turn the exits of code inside runs into Exited, for all tasks that `loop` creates from now on."""
    loop.set_task_factory(_task)


def _task(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
    if current_calls.get() is None:
        return asyncio.Task(coroutine, loop=loop, **options)
    task = asyncio.Task(_contained(coroutine), loop=loop, **options)
    # Cancelled before its first step, a task never gets to the coroutine inside, and Python warns of that.
    task.add_done_callback(lambda _: coroutine.close())
    return task


async def _contained(inside: Coroutine[Any, Any, Any]) -> Any:
    try:
        return await inside
    except (SystemExit, KeyboardInterrupt) as error:
        raise Exited from error
