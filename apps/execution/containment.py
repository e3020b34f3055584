"""An agent's code may call sys.exit(); that must not end the gateway.

asyncio lets SystemExit and KeyboardInterrupt out of a task's step and so out of the event loop, which would cut every
other client. The SDK runs tools, guardrails and instructions in tasks of its own, so the only place that sees them all
is the loop's task factory.
"""

import asyncio
from collections.abc import Coroutine, Generator
from typing import Any

from apps.upstreams.calls import current_calls


class Exited(Exception):
    """Code inside a run called sys.exit() or raised KeyboardInterrupt, which is its cause."""


def contain(loop: asyncio.AbstractEventLoop) -> None:
    """Turn the exits of code inside runs into Exited, for all tasks that `loop` creates from now on."""
    loop.set_task_factory(_task)


def _task(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
    if current_calls.get() is not None:
        coroutine = _Contained(coroutine)
    return asyncio.Task(coroutine, loop=loop, **options)


class _Contained(Coroutine[Any, Any, Any]):
    """A coroutine that raises Exited where the one inside would end the process."""

    def __init__(self, inside: Coroutine[Any, Any, Any]) -> None:
        self._inside = inside

    def send(self, value: Any) -> Any:
        try:
            return self._inside.send(value)
        except (SystemExit, KeyboardInterrupt) as error:
            raise Exited from error

    def throw(self, *exception: Any) -> Any:
        try:
            return self._inside.throw(*exception)
        except (SystemExit, KeyboardInterrupt) as error:
            raise Exited from error

    def close(self) -> None:
        self._inside.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._inside.__await__()
