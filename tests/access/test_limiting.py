"""Admission, and that pages are told what a request would be."""

import uuid
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from apps.access.authorise import permit
from apps.access.decide import Action, Decision, Target
from apps.access.explain import explain, steps
from apps.access.limit_models import Limit
from apps.access.limiting import _UNLIMITED, Admission, admit, fullest, states, states_now
from apps.access.limits.keeper import PastUse, keeper
from apps.access.limits.memory import MemoryStore
from apps.access.policy_in_force import policy_in_force
from apps.access.subject import EndUser, Key, Subject
from apps.core import clock, live_config
from apps.core.errors import RateLimited
from apps.observability.metrics import REGISTRY
from tests.factories import ApiKeyFactory, GrantFactory
from tests.harness import RedisServer

pytestmark = pytest.mark.django_db(transaction=True)

AGENT = "default/plain"


@pytest.fixture(autouse=True)
def _fresh_store() -> Iterator[None]:
    keeper.store, keeper._held = MemoryStore(), {}
    yield
    keeper.store, keeper._held = MemoryStore(), {}


@pytest.fixture
async def subject() -> Subject:
    await sync_to_async(GrantFactory)()
    key = await sync_to_async(ApiKeyFactory)()
    return Subject(Key(key.pk, key.name), EndUser("ann"))


async def limit(**fields: Any) -> Limit:
    made = await Limit.objects.acreate(**fields)
    live_config.forget()
    await sync_to_async(live_config.current)()
    return made


async def decision(subject: Subject) -> Decision:
    limits = await states(subject, AGENT)
    return explain(policy_in_force(), subject, Action.CHAT, Target(AGENT), at=clock.now(), limits=limits)


async def admitted(subject: Subject) -> Admission:
    target = Target(AGENT)
    return await admit(subject, target, permit(subject, Action.CHAT, target))


async def test_without_a_limit_nothing_is_kept(subject: Subject) -> None:
    await limit(agents="labs/*", requests_per_minute=1)

    assert await admitted(subject) is _UNLIMITED
    assert await states(subject, AGENT) == []


async def test_page_is_told_what_the_request_is_told(subject: Subject) -> None:
    made = await limit(key_id=subject.key.id, requests_per_minute=1, tokens_per_day=1_000_000)
    assert (await decision(subject)).allowed
    await admitted(subject)
    hit = REGISTRY.get_sample_value("gateway_limits_hit_total", {"unit": "requests"}) or 0

    with pytest.raises(RateLimited) as caught:
        await admitted(subject)

    assert REGISTRY.get_sample_value("gateway_limits_hit_total", {"unit": "requests"}) == hit + 1
    told = await decision(subject)
    assert (told.allowed, told.code, told.reason) == (False, "limit", caught.value.message)
    assert caught.value.message == f"The limit of 1 requests (limit-{made.pk}: per minute and key) is used up."
    assert [step.outcome for step in steps(told)][-2:] == ["denied", "passed"]
    assert "0 of 1,000,000 tokens" in [*steps(told)][-1].text
    now = await sync_to_async(states_now)(subject, AGENT)
    assert [(one.name, one.used, one.limit) for one in now] == [(one.name, one.used, one.limit) for one in told.limits]


async def test_looking_counts_nothing(subject: Subject) -> None:
    await limit(requests_per_minute=1)

    for _ in range(3):
        assert [one.used for one in await states(subject, AGENT)] == [0]

    await admitted(subject)


async def test_admission_is_settled_once(subject: Subject) -> None:
    await limit(concurrent_runs=1, tokens_per_day=100, usd_per_month=5)
    admission = await admitted(subject)

    for _ in range(2):
        await admission.settle(tokens=30, usd=1.5)

    assert [one.used for one in await states(subject, AGENT)] == [0, 30, 1.5]


async def test_retry_waits_for_the_last_of_the_limits_that_are_used_up(subject: Subject) -> None:
    await limit(requests_per_minute=1)
    await limit(per="agent", requests_per_day=1)
    await admitted(subject)

    with pytest.raises(RateLimited) as caught:
        await admitted(subject)

    until_midnight = max(one.resets_in for one in await states(subject, AGENT))
    assert caught.value.retry_after == pytest.approx(until_midnight, abs=2)


@pytest.mark.parametrize(("number", "told"), [("requests_per_minute", None), ("usd_per_month", "false")])
async def test_client_is_told_not_to_come_again_in_vain(subject: Subject, number: str, told: str | None) -> None:
    await limit(**{number: 1})
    await (await admitted(subject)).settle(usd=1)

    with pytest.raises(RateLimited) as caught:
        await admitted(subject)

    assert caught.value.headers.get("x-should-retry") == told


async def test_run_that_ends_while_the_store_is_down_is_renewed_no_more(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    await limit(concurrent_runs=1)
    admission = await admitted(subject)
    assert len(keeper._held) == 1
    monkeypatch.setattr(keeper, "outage", "Connection refused.")

    await admission.settle(tokens=1)

    assert keeper._held == {}
    assert await admitted(subject) is _UNLIMITED
    assert await states(subject, AGENT) == []


class TestKeeper:
    @pytest.fixture
    async def started(self, subject: Subject) -> AsyncIterator[None]:
        self.past = [
            PastUse(subject.key.id, "ann", AGENT, requests=3, tokens=50, usd=0.5),
            PastUse(subject.key.id, "", "default/other", requests=4, tokens=70, usd=0.25),
            PastUse(99_999, "ann", AGENT, requests=8, tokens=9, usd=9.0),
        ]
        yield
        await keeper.stop()

    def history(self, before: datetime) -> Any:
        assert before <= clock.now()
        return self.past

    async def test_what_was_used_before_the_start_counts(self, subject: Subject, started: None) -> None:
        await limit(key_id=subject.key.id, requests_per_day=100, tokens_per_day=1000, usd_per_month=10)
        await limit(per="user", requests_per_day=100)
        await limit(per="agent", requests_per_day=100)

        await keeper.start(self.history)

        used = [(one.unit, one.used) for one in await states(subject, AGENT)]
        of_key = [("requests", 7), ("tokens", 120), ("USD", 0.75)]
        assert used == [*of_key, ("requests", 3), ("requests", 11)]

    async def test_page_shows_the_fullest(self, subject: Subject, started: None) -> None:
        for_all = await limit(requests_per_day=10, tokens_per_day=10)
        await keeper.start(self.history)

        told = await sync_to_async(fullest)([for_all.pk])

        assert [(one.used, one.unit) for one in told.values()] == [(9, "tokens")]  # of the key with 8 requests

    async def test_pages_read_redis_over_a_connection_of_their_own(
        self, subject: Subject, started: None, settings: Any, redis_server: RedisServer
    ) -> None:
        settings.REDIS_URL, settings.SECRET_KEY = redis_server.url, uuid.uuid4().hex
        await limit(requests_per_day=100)
        await keeper.start(self.history)
        await admitted(subject)

        for _ in range(2):
            assert [one.used for one in await sync_to_async(states_now)(subject, AGENT)] == [8]
