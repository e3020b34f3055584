"""Failed authentications: by whom they are counted, and how many of those wait."""

import asyncio
from time import perf_counter

import pytest

from apps.access.attempts import Waiting, _client


@pytest.mark.parametrize(
    ("address", "counted_as"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:aaaa::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:bbbb::2", "2001:db8:1:2::/64"),
        ("::ffff:203.0.113.7", "::ffff:203.0.113.7"),
        ("", ""),
        ("no address" * 50, ("no address" * 50)[:100]),
    ],
)
def test_host_with_ipv6_counts_by_its_network(address: str, counted_as: str) -> None:
    assert _client({"REMOTE_ADDR": address}) == counted_as


async def test_only_so_many_wait_at_once() -> None:
    waiting = Waiting(at_once=2, seconds=0.05)
    began = perf_counter()

    waited = await asyncio.gather(*(waiting.wait() for _ in range(4)))

    assert (waited, perf_counter() - began >= 0.05) == ([True, True, False, False], True)
    assert await waiting.wait()


async def test_place_of_one_who_leaves_is_free_again() -> None:
    waiting = Waiting(at_once=1, seconds=60)
    left = asyncio.create_task(waiting.wait())
    await asyncio.sleep(0)
    left.cancel()
    await asyncio.gather(left, return_exceptions=True)

    last = asyncio.create_task(waiting.wait())
    await asyncio.sleep(0)

    assert not last.done()
    last.cancel()
