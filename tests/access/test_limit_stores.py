"""The two stores, driven at chosen instants: both do what the simplest bookkeeping would."""

import asyncio
import socket
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apps.access.limits import shared
from apps.access.limits.memory import MemoryStore
from apps.access.limits.rules import LimitRule, Meter, Per
from apps.access.limits.shared import LEASE_SECONDS, RedisStore
from apps.access.limits.store import Past, Store, StoreDown
from apps.access.limits.use import windows
from tests.harness import RedisServer

NOON = 1_800_014_400.0  # 2027-01-15 12:00:00 UTC


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """For a Redis that is to answer, on a machine that may stand still."""
    monkeypatch.setattr(shared, "_PATIENCE", 30.0)


@pytest.fixture(params=["memory", "redis"])
def store_of(request: pytest.FixtureRequest) -> Any:
    """Makes a fresh store, inside the loop that uses it."""
    if request.param == "memory":
        return MemoryStore
    request.getfixturevalue("patience")
    server: RedisServer = request.getfixturevalue("redis_server")
    return lambda: RedisStore(server.url, uuid.uuid4().hex)


def meter(id: str, *numbers: float | None) -> Meter:
    """Numbers in the order of QUOTAS; those left out limit nothing."""
    return Meter(id, LimitRule(int(id), Per.KEY, (*numbers, *[None] * (7 - len(numbers)))))


# --- against the simplest bookkeeping --------------------------------------------------------------------------------


@dataclass
class Ledger:
    """Writes everything down and counts it anew each time."""

    moments: list[tuple[str, float]] = field(default_factory=list)
    running: dict[str, list[str]] = field(default_factory=dict)
    used: list[tuple[str, float, int, float]] = field(default_factory=list)  # meter, when, tokens, USD

    def use(self, one: Meter, at: float) -> tuple[float, ...]:
        now = windows(at)
        came = [when for id, when in self.moments if id == one.id]
        used = [(when, tokens, usd) for id, when, tokens, usd in self.used if id == one.id]
        return (
            sum(when > at - 1 for when in came) if one.rule.numbers[0] else -1,
            sum(when > at - 60 for when in came) if one.rule.counts_moments else -1,
            sum(windows(when).day == now.day for when in came),
            sum(one.id in meters for meters in self.running.values()),
            sum(tokens for when, tokens, _ in used if windows(when).minute == now.minute),
            sum(tokens for when, tokens, _ in used if windows(when).day == now.day),
            round(sum(usd for when, _, usd in used if windows(when).month == now.month), 6),
        )

    def take(self, meters: list[Meter], at: float, lease: str) -> bool:
        for one in meters:
            for used, number in zip(self.use(one, at), one.rule.numbers, strict=True):
                if number is not None and used >= number:
                    return False
        self.moments += [(one.id, at) for one in meters]
        self.running[lease] = [one.id for one in meters]
        return True

    def settle(self, meters: list[Meter], at: float, lease: str, tokens: int, usd: float) -> None:
        del self.running[lease]
        self.used += [(one.id, at, tokens, usd) for one in meters]


_number = st.none() | st.integers(1, 6)
_rules = st.lists(
    st.tuples(_number, _number, _number, _number, st.none() | st.integers(1, 40), _number, st.none() | st.just(0.5)),
    min_size=1,
    max_size=3,
)
_steps = st.lists(
    st.tuples(
        st.sampled_from(["take", "take", "take", "settle"]),
        st.sampled_from([0.0, 0.125, 0.5, 1.0, 7.0, 30.0, 60.0, 43_200.0]),  # seconds that pass before it
        st.integers(0, 2),  # which meter is left out
        st.integers(0, 20),  # tokens
    ),
    max_size=40,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(numbers=_rules, steps=_steps)
def test_store_counts_as_the_simplest_bookkeeping_does(store_of: Any, numbers: Any, steps: Any) -> None:
    asyncio.run(_compare(store_of(), [meter(str(i), *of_rule) for i, of_rule in enumerate(numbers)], steps))


async def _compare(store: Store, all_meters: list[Meter], steps: Any) -> None:
    ledger, at, under_way = Ledger(), NOON, list[tuple[str, list[Meter], float]]()
    try:
        for index, (verb, pause, left_out, tokens) in enumerate(steps):
            # Redis ends the slots of runs that nobody renews: here they are settled before that.
            for lease, meters, since in [one for one in under_way if at + pause - one[2] >= LEASE_SECONDS - 1]:
                under_way.remove((lease, meters, since))
                await _settle(store, ledger, meters, at, lease, tokens)
            at += pause
            if verb == "take":
                meters = [one for number, one in enumerate(all_meters) if number != left_out] or all_meters
                taken, _ = await store.take(meters, at, f"lease{index}")
                assert taken == ledger.take(meters, at, f"lease{index}")
                if taken:
                    under_way.append((f"lease{index}", meters, at))
            elif under_way:
                lease, meters, _ = under_way.pop(0)
                await _settle(store, ledger, meters, at, lease, tokens)
            seen = [use.used for use in await store.look(all_meters, at)]
            assert [_comparable(one, used) for one, used in zip(all_meters, seen, strict=True)] == [
                ledger.use(one, at) for one in all_meters
            ]
    finally:
        await store.close()


async def _settle(store: Store, ledger: Ledger, meters: list[Meter], at: float, lease: str, tokens: int) -> None:
    await store.settle(meters, at, lease, tokens, tokens / 64)
    ledger.settle(meters, at, lease, tokens, tokens / 64)


def _comparable(one: Meter, used: tuple[float, ...]) -> tuple[float, ...]:
    """Without the moments, where no number needs them; with a millionth of a dollar's exactness."""
    second, minute, *rest, usd = used
    return (
        second if one.rule.numbers[0] else -1,
        minute if one.rule.counts_moments else -1,
        *rest,
        round(usd, 6),
    )


# --- what bookkeeping does not know ----------------------------------------------------------------------------------


async def test_room_comes_back_when_the_oldest_request_is_a_minute_old(store_of: Any) -> None:
    store, one = store_of(), meter("1", None, 2)
    for at in (NOON, NOON + 10):
        assert (await store.take([one], at, str(at)))[0]

    taken, (use,) = await store.take([one], NOON + 59.99, "too early")
    assert (taken, use.minute_from) == (False, NOON)
    assert (await store.take([one], NOON + 60, "in time"))[0]
    await store.close()


async def test_past_is_claimed_once_and_added(store_of: Any) -> None:
    store, one = store_of(), meter("1", None, None, 10)
    assert await store.claim([1, 2]) == {1, 2}
    assert await store.claim([1, 2, 3]) == {3}
    await store.take([one], NOON, "a")
    await store.recall([Past(one, 7, 100, 0.25), Past(one, 1, 10, 0.5)], NOON)

    (use,) = await store.look([one], NOON)

    assert use.used == (0, 0, 9, 1, 0, 110, 0.75)
    assert await store.look_after({}, NOON)
    await store.close()


async def test_what_is_over_is_dropped_from_memory() -> None:
    store, one = MemoryStore(), meter("1", 1)
    await store.take([one], NOON, "a")
    await store.look_after({}, NOON + 40 * 86_400)
    assert len(store._tallies) == 1  # still under way
    await store.settle([one], NOON, "a", 1, 1)

    await store.look_after({}, NOON + 40 * 86_400)

    assert store._tallies == {}


async def test_lease_that_nobody_renews_ends(redis_server: RedisServer, patience: None) -> None:
    prefix, one = uuid.uuid4().hex, meter("1", None, None, None, 1)
    living, dead = RedisStore(redis_server.url, prefix), RedisStore(redis_server.url, prefix)

    now = time.time()  # Redis drops by its own clock what has ended
    assert (await dead.take([one], now, "of the dead"))[0]

    assert not (await living.take([one], now + LEASE_SECONDS - 1, "too early"))[0]
    assert (await living.take([one], now + LEASE_SECONDS, "in time"))[0]

    await living.look_after({"in time": [one]}, now + LEASE_SECONDS + 20)
    assert not (await dead.take([one], now + 2 * LEASE_SECONDS + 1, "while it lives"))[0]
    await living.close()
    await dead.close()


async def test_long_past_is_recalled_in_time(store_of: Any) -> None:
    store = store_of()
    many = [meter(str(number)) for number in range(3000)]
    assert len(await store.claim(range(3000))) == 3000

    await store.recall((Past(one, 1, 2, 0.5) for one in many), NOON)

    (last,) = await store.look([many[-1]], NOON)
    assert last.used == (0, 0, 1, 0, 0, 2, 0.5)
    await store.close()


async def test_empty_store_says_so(redis_server: RedisServer, patience: None) -> None:
    store = RedisStore(redis_server.url, uuid.uuid4().hex)

    assert not await store.look_after({}, NOON)
    await store.claim([1])
    assert await store.look_after({}, NOON)
    await store.close()


async def test_many_at_once_are_no_more_than_allowed(redis_server: RedisServer, patience: None) -> None:
    prefix, one, two = uuid.uuid4().hex, meter("1", None, 40), meter("2", None, None, 25)
    stores = [RedisStore(redis_server.url, prefix) for _ in range(4)]

    answers = await asyncio.gather(
        *(stores[i % 4].take([one, two] if i % 2 else [one], NOON, f"lease{i}") for i in range(200))
    )

    assert sum(taken for taken, _ in answers) == 40
    (first, second) = await stores[0].look([one, two], NOON)
    assert first.used[1] == 40
    assert second.used[2] <= 25
    for store in stores:
        await store.close()


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Takes connections and says nothing."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


@pytest.mark.parametrize("state", ["silent", "closed"])
async def test_store_that_does_not_answer_is_down_within_a_second(silent_port: int, state: str) -> None:
    store = RedisStore(f"redis://127.0.0.1:{silent_port if state == 'silent' else 9}/0", "x")
    loop = asyncio.get_running_loop()
    began = loop.time()

    with pytest.raises(StoreDown):
        await store.take([meter("1", 1)], NOON, "a")

    assert loop.time() - began < 8  # a second, on a machine that does not stand still
    await store.close()
