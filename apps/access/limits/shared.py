"""The store of a gateway that is several processes: Redis, asked once for a request and told once of its end.

One script looks at every meter of a request and counts on all of them or on none, so that no two workers can both take
what only one may have. Why it is ours and not a library's: docs/decisions/0014-limits-are-one-script.md.
"""

import asyncio
from collections.abc import Awaitable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final, TypeVar

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.client import Pipeline
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from apps.access.limits.rules import QUOTAS, LimitRule, Meter
from apps.access.limits.store import Past, StoreDown
from apps.access.limits.use import BURST_SECONDS, MINUTE_SECONDS, Use, Windows, windows
from apps.core.ids import new_id

LEASE_SECONDS: Final = 30  # after which the slot of a worker that is gone comes back
_PATIENCE: Final = 1.0  # seconds for one answer
_CONNECTIONS: Final = 32
_BATCH: Final = 500

T = TypeVar("T")

# KEYS: of each meter six, as `_keys` gives them. ARGV: the instant, the same less a minute and less a second, the lease
# (empty: only look) and its end, the end of the day, then of each meter its numbers ("" for none) and whether moments
# count. Numbers go back as text, because Lua's own conversion would cut them.
_TAKE = """
local now, minute_ago, second_ago, lease, lease_ends, day_ends = unpack(ARGV, 1, 6)
local meters, numbers = #KEYS / 6, tonumber(ARGV[7])

local function use(key)
  redis.call('ZREMRANGEBYSCORE', KEYS[key], '-inf', minute_ago)
  redis.call('ZREMRANGEBYSCORE', KEYS[key + 1], '-inf', now)
  local oldest = redis.call('ZRANGE', KEYS[key], 0, 0, 'WITHSCORES')
  local recent = redis.call('ZRANGEBYSCORE', KEYS[key], '(' .. second_ago, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  return {
    redis.call('ZCOUNT', KEYS[key], '(' .. second_ago, '+inf'),
    redis.call('ZCARD', KEYS[key]),
    redis.call('GET', KEYS[key + 2]) or '0',
    redis.call('ZCARD', KEYS[key + 1]),
    redis.call('GET', KEYS[key + 3]) or '0',
    redis.call('GET', KEYS[key + 4]) or '0',
    redis.call('GET', KEYS[key + 5]) or '0',
    recent[2] or '0',
    oldest[2] or '0',
  }
end

local function is_used_up(meter, used)
  for n = 1, numbers do
    local number = tonumber(ARGV[7 + meter * (numbers + 1) + n])
    if number and tonumber(used[n]) >= number then return true end
  end
  return false
end

local function count(meter)
  local key = meter * 6 + 1
  if ARGV[7 + (meter + 1) * (numbers + 1)] == '1' then
    redis.call('ZADD', KEYS[key], now, lease)
    redis.call('EXPIRE', KEYS[key], 61)
  end
  redis.call('ZADD', KEYS[key + 1], lease_ends, lease)
  redis.call('EXPIREAT', KEYS[key + 1], math.ceil(lease_ends))
  redis.call('INCR', KEYS[key + 2])
  redis.call('EXPIREAT', KEYS[key + 2], day_ends)
end

local uses, taken = {}, lease ~= ''
for meter = 0, meters - 1 do
  uses[meter + 1] = use(meter * 6 + 1)
  if is_used_up(meter, uses[meter + 1]) then taken = false end
end
if taken then
  for meter = 0, meters - 1 do
    count(meter)
    uses[meter + 1] = use(meter * 6 + 1)
  end
end
return {taken and 1 or 0, uses}
"""

# KEYS as above. ARGV: the lease, tokens, USD, and the ends of minute, day and month.
_SETTLE = """
local function add(key, amount, ends)
  if tonumber(amount) > 0 then
    redis.call('INCRBYFLOAT', key, amount)
    redis.call('EXPIREAT', key, ends)
  end
end

for key = 1, #KEYS, 6 do
  redis.call('ZREM', KEYS[key + 1], ARGV[1])
  add(KEYS[key + 3], ARGV[2], ARGV[4])
  add(KEYS[key + 4], ARGV[2], ARGV[5])
  add(KEYS[key + 5], ARGV[3], ARGV[6])
end
"""


class RedisStore:
    """See Store. `prefix` keeps installations on one server apart. Belongs to the event loop that first uses it."""

    def __init__(self, url: str, prefix: str) -> None:
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=_CONNECTIONS,
            timeout=_PATIENCE,
            socket_timeout=_PATIENCE,
            socket_connect_timeout=_PATIENCE,
            retry=Retry(NoBackoff(), 0),  # whoever asks does not wait twice
            decode_responses=True,
        )
        self._redis = Redis.from_pool(pool)
        self._taking = self._redis.register_script(_TAKE)
        self._settling = self._redis.register_script(_SETTLE)
        self._prefix = prefix
        self._ending: set[asyncio.Task[None]] = set()

    async def take(self, meters: Sequence[Meter], at: float, lease: str) -> tuple[bool, Sequence[Use]]:
        return await self._ask(meters, at, lease)

    async def look(self, meters: Sequence[Meter], at: float) -> Sequence[Use]:
        return (await self._ask(meters, at, ""))[1]

    async def _ask(self, meters: Sequence[Meter], at: float, lease: str) -> tuple[bool, Sequence[Use]]:
        now = windows(at)
        keys = [key for meter in meters for key in self._keys(meter, now)]
        moments = (at, at - MINUTE_SECONDS, at - BURST_SECONDS)
        told = (*moments, lease, at + LEASE_SECONDS, now.day_ends, len(QUOTAS))
        numbers = [number for meter in meters for number in _numbers(meter.rule)]
        taken, uses = await _answer(self._taking(keys=keys, args=[*told, *numbers]))
        return bool(taken), [_use(one) for one in uses]

    async def settle(self, meters: Sequence[Meter], at: float, lease: str, tokens: int, usd: float) -> None:
        """Goes on to its end when whoever waits for it is cancelled."""
        task = asyncio.create_task(self._settle(meters, at, lease, tokens, usd))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
        await asyncio.shield(task)

    async def _settle(self, meters: Sequence[Meter], at: float, lease: str, tokens: int, usd: float) -> None:
        now = windows(at)
        keys = [key for meter in meters for key in self._keys(meter, now)]
        ends = (now.minute_ends, now.day_ends, now.month_ends)
        await _answer(self._settling(keys=keys, args=[lease, tokens, usd, *ends]))

    async def claim(self, limits: Iterable[int]) -> set[int]:
        ours: set[int] = set()
        for asked in _batches(limits):
            pipeline = self._redis.pipeline(transaction=False)
            for limit in asked:
                pipeline.sadd(self._claimed, limit)
            answers = await _answer(pipeline.execute())
            ours.update(limit for limit, is_new in zip(asked, answers, strict=True) if is_new)
        return ours

    async def recall(self, past: Iterable[Past], at: float) -> None:
        now = windows(at)
        for batch in _batches(past):
            pipeline = self._redis.pipeline(transaction=False)
            for one in batch:
                _, _, requests_day, _, tokens_day, usd_month = self._keys(one.meter, now)
                _add(pipeline, requests_day, one.requests, now.day_ends)
                _add(pipeline, tokens_day, one.tokens, now.day_ends)
                _add(pipeline, usd_month, one.usd, now.month_ends)
            await _answer(pipeline.execute())

    async def look_after(self, held: Mapping[str, Sequence[Meter]], at: float) -> bool:
        ends = at + LEASE_SECONDS
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.exists(self._claimed)
        for lease, meters in held.items():
            for meter in meters:
                running = self._running(meter)
                pipeline.zadd(running, {lease: ends}, xx=True)  # not one that was given back meanwhile
                pipeline.expireat(running, int(ends) + 1)
        exists, *_ = await _answer(pipeline.execute())
        return bool(exists)

    async def close(self) -> None:
        """Waits for the runs that just end to be counted."""
        await asyncio.gather(*self._ending, return_exceptions=True)
        await self._redis.aclose()
        await self._redis.connection_pool.disconnect()

    @property
    def _claimed(self) -> str:
        return f"{self._prefix}:claimed"

    def _running(self, meter: Meter) -> str:
        return f"{self._prefix}:{meter.id}:running"

    def _keys(self, meter: Meter, now: Windows) -> tuple[str, str, str, str, str, str]:
        """Moments, running, requests of the day, tokens of the minute, tokens of the day, USD of the month."""
        one = f"{self._prefix}:{meter.id}"
        return (
            f"{one}:moments",
            self._running(meter),
            f"{one}:requests:d{now.day}",
            f"{one}:tokens:m{now.minute}",
            f"{one}:tokens:d{now.day}",
            f"{one}:usd:{now.month}",
        )


def _batches(items: Iterable[T]) -> Iterator[list[T]]:
    """Each small enough to be answered in time."""
    rest = iter(items)
    while batch := list(islice(rest, _BATCH)):
        yield batch


def _add(pipeline: Pipeline, key: str, amount: float, ends: int) -> None:
    if amount:
        pipeline.incrbyfloat(key, amount)
        pipeline.expireat(key, ends)


def new_lease() -> str:
    """A name for a run under way that no other process gives."""
    return new_id("")


async def _answer(asked: Awaitable[Any]) -> Any:
    """Raises StoreDown after a second at the latest."""
    try:
        async with asyncio.timeout(_PATIENCE):
            return await asked
    except (RedisError, OSError) as error:  # TimeoutError is an OSError
        raise StoreDown(str(error) or type(error).__name__) from error


def _numbers(rule: LimitRule) -> tuple[float | str, ...]:
    return (*("" if number is None else number for number in rule.numbers), int(rule.counts_moments))


def _use(told: Sequence[Any]) -> Use:
    *used, second_from, minute_from = (float(one) for one in told)
    return Use(tuple(used), second_from, minute_from)
