"""Waiting for what must come true soon, without a sleep in hope."""

import time
from collections.abc import Callable
from typing import Any

# What the gateway promises "within a second" is looked for for longer: the machine may be busy with other tests, and
# stands still for seconds at times.
SOON = 10.0
_PAUSE = 0.03


def eventually(read: Callable[[], Any], expected: Any, *, within: float = SOON) -> Any:
    """Reads until the value equals `expected`, and returns it. Raises AssertionError with the last value seen."""
    deadline = time.monotonic() + within
    while (seen := read()) != expected:
        if time.monotonic() > deadline:
            raise AssertionError(f"after {within:g} s still {seen!r} instead of {expected!r}")
        time.sleep(_PAUSE)
    return seen
