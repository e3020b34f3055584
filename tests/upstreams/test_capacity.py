"""Places at an upstream, and the queue before them."""

import asyncio
import gc
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from apps.core.errors import UpstreamBusy
from apps.upstreams import capacity
from apps.upstreams.capacity import Place
from tests.upstreams.test_routing import target

NARROW = target("narrow", max_concurrency=2, queue_size=2, queue_timeout=30.0)


async def entered(of: Any = NARROW) -> Place:
    place = await capacity.enter(of)
    assert place is not None
    return place


async def waiting(number: int, of: Any = NARROW) -> list["asyncio.Task[Place]"]:
    """So many calls in the queue, in this order."""
    tasks = [asyncio.create_task(entered(of)) for _ in range(number)]
    await asyncio.sleep(0)
    assert capacity.waiting_at("narrow") == number
    return tasks


async def test_upstream_without_a_limit_gives_no_places() -> None:
    assert await capacity.enter(target("wide")) is None


async def test_whoever_came_first_goes_in_first() -> None:
    first, second = await entered(), await entered()
    third, fourth = await waiting(2)

    second.leave()
    assert await third
    assert (fourth.done(), capacity.running_at("narrow"), capacity.waiting_at("narrow")) == (False, 2, 1)
    first.leave()
    assert await fourth


async def test_full_queue_refuses_with_the_time_to_come_again() -> None:
    places = [await entered(), await entered()]
    tasks = await waiting(2)

    with pytest.raises(UpstreamBusy) as caught:
        await entered()

    assert (caught.value.status, caught.value.code, caught.value.type) == (429, "upstream_busy", "rate_limit_error")
    assert caught.value.message == (
        "Upstream 'narrow' is busy: 2 running and 2 waiting. Try again later, or let it take more calls at once "
        "in the admin."
    )
    assert 1 <= (caught.value.retry_after or 0) <= 60
    for place in places:
        place.leave()
    for task in tasks:
        (await task).leave()
    assert capacity.running_at("narrow") == 0


async def test_call_that_waited_too_long_leaves_the_queue() -> None:
    place = await entered(one := replace(NARROW, max_concurrency=1, queue_timeout=0.02))

    with pytest.raises(UpstreamBusy) as caught:
        await entered(one)

    assert caught.value.message.startswith("Upstream 'narrow' is busy: no place became free within 0.02 s.")
    assert capacity.waiting_at("narrow") == 0
    place.leave()
    (await entered(one)).leave()


async def test_cancelled_call_leaves_the_queue_and_no_place_behind() -> None:
    one = replace(NARROW, max_concurrency=1)
    place = await entered(one)
    first, second = await waiting(2, one)

    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    assert capacity.waiting_at("narrow") == 1
    place.leave()  # to the second, which is cancelled before it knows
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)

    assert (capacity.running_at("narrow"), capacity.waiting_at("narrow")) == (0, 0)


async def test_place_is_given_back_once_however_often_it_is_left() -> None:
    first, second = await entered(), await entered()

    first.leave()
    first.leave()

    assert capacity.running_at("narrow") == 1
    second.leave()


async def test_place_that_was_forgotten_comes_back() -> None:
    await entered()
    gc.collect()
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    assert capacity.running_at("narrow") == 0


async def test_limit_that_was_raised_lets_the_waiting_in() -> None:
    places = [await entered(), await entered()]
    tasks = await waiting(2)

    places.append(await entered(replace(NARROW, max_concurrency=5)))

    assert [bool(await task) for task in tasks] == [True, True]
    assert capacity.running_at("narrow") == 5


def test_each_event_loop_has_its_own_places() -> None:
    async def running() -> int:
        place = await entered()
        try:
            return capacity.running_at("narrow")
        finally:
            place.leave()

    assert [asyncio.run(running()) for _ in range(2)] == [1, 1]


@pytest.mark.parametrize("seed", range(5))
async def test_places_are_never_too_many_and_none_is_lost_whoever_gives_up(seed: int) -> None:
    chance = Random(seed)
    narrow = replace(NARROW, max_concurrency=3, queue_size=20)
    running = most = 0

    async def call() -> None:
        nonlocal running, most
        place = await entered(narrow)
        running += 1
        most = max(most, running)
        try:
            for _ in range(chance.randrange(4)):
                await asyncio.sleep(0)
        finally:
            running -= 1
            place.leave()

    tasks: list[asyncio.Task[None]] = []
    for _ in range(300):
        tasks.append(asyncio.create_task(call()))
        if chance.random() < 0.4:
            chance.choice(tasks).cancel()
        if chance.random() < 0.5:
            await asyncio.sleep(0)
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)

    assert {type(outcome) for outcome in outcomes} <= {type(None), asyncio.CancelledError, UpstreamBusy}
    assert outcomes.count(None) > 50
    assert (most, capacity.running_at("narrow"), capacity.waiting_at("narrow")) == (3, 0, 0)
