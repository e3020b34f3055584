"""What a server's worker does to its event loop."""

import asyncio
import gc
from collections.abc import AsyncGenerator, Iterator

import pytest
import uvloop

from gateway_site import worker


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """As a server has it, not pytest's."""
    loop = uvloop.new_event_loop()
    yield loop
    loop.close()


def test_generator_that_is_dropped_half_way_is_closed(loop: asyncio.AbstractEventLoop) -> None:
    closed = asyncio.Event()

    async def words() -> AsyncGenerator[str, None]:
        try:
            yield "one"
            yield "two"
        finally:
            await asyncio.sleep(0)  # it needs the loop
            closed.set()

    async def main() -> None:
        worker._forget_generators()
        generator = words()
        assert await anext(generator) == "one"
        del generator
        gc.collect()
        await asyncio.wait_for(closed.wait(), 10)

    loop.run_until_complete(main())
