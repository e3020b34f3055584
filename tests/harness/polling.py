"""Waiting for what must come true soon, without a sleep in hope."""

import time
from collections.abc import Callable
from typing import Any

# What the gateway promises "within a second" is looked for for longer: the machine may be busy with other tests, and
# stands still for seconds at times.
SOON = 10.0
_PAUSE = 0.02
_LONGEST_PAUSE = 0.3


def eventually(read: Callable[[], Any], expected: Any, *, within: float = SOON) -> Any:
    """Reads until the value equals `expected`, and returns it. Raises AssertionError with the last value seen."""
    began = time.monotonic()
    while (seen := read()) != expected:
        waited = time.monotonic() - began
        if waited > within:
            raise AssertionError(f"after {within:g} s still {seen!r} instead of {expected!r}")
        # A look costs work of the server: less and less often, so that the last one is late by a tenth at most.
        time.sleep(min(max(_PAUSE, waited / 10), _LONGEST_PAUSE))
    return seen
