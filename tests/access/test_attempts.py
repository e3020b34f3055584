"""Failed authentications: counted by address and minute, few of them logged, many of them slow."""

import asyncio
from time import perf_counter

import pytest

from apps.access.attempts import Tally, Waiting, _client, is_told


class Seconds:
    """A clock that stands still."""

    def __init__(self) -> None:
        self.now = 600.0

    def __call__(self) -> float:
        return self.now


def test_failures_are_counted_for_each_within_a_minute() -> None:
    seconds = Seconds()
    tally = Tally(seconds=seconds)

    counts = [tally.add("a"), tally.add("a"), tally.add("b")]
    seconds.now += 59.9
    counts.append(tally.add("a"))
    seconds.now += 0.2
    counts += [tally.of("a"), tally.add("a")]

    assert counts == [1, 2, 1, 3, 0, 1]


def test_memory_is_bounded_and_those_that_fail_on_are_kept() -> None:
    tally = Tally(remembered=3, seconds=Seconds())
    for who in ("a", "b", "c", "a", "d"):
        tally.add(who)

    assert [tally.of(who) for who in "abcd"] == [2, 0, 1, 1]


def test_ten_thousand_addresses_are_remembered_at_most() -> None:
    tally = Tally()
    for number in range(20_000):
        tally.add(str(number))

    assert len(tally._counts) == 10_000


def test_failures_with_a_log_line_are_the_first_and_the_powers_of_two() -> None:
    assert [count for count in range(1, 1000) if is_told(count)] == [1, 2, 3, 4, 8, 16, 32, 64, 128, 256, 512]


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
