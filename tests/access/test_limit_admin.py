"""Limits and prices in the console."""

from collections.abc import Iterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from apps.access.decide import Decision, Target
from apps.access.limit_models import Limit
from apps.access.limiting import admit
from apps.access.limits.keeper import PastUse, keeper
from apps.access.limits.memory import MemoryStore
from apps.access.models import Team
from apps.access.subject import Key, Subject
from apps.core import live_config
from apps.upstreams.calls import ModelCall
from apps.upstreams.models import ModelPrice
from apps.upstreams.prices import cost
from tests.factories import ApiKeyFactory

LIST = "/admin/access/limit/"
PRICES = "/admin/upstreams/modelprice/"
pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _fresh_store() -> Iterator[None]:
    keeper.store = MemoryStore()
    yield
    keeper.store = MemoryStore()


def errors(client: Client, **fields: Any) -> dict[str, list[str]]:
    response = client.post(f"{LIST}add/", {"agents": "*", "per": "key", **fields})
    found: dict[str, list[str]] = response.context["adminform"].form.errors
    return dict(found)


def test_limit_is_added_and_listed_with_what_it_allows(admin_client: Client) -> None:
    key = ApiKeyFactory(name="Open WebUI")
    form = {"key": key.pk, "agents": "labs/*", "per": "user", "requests_per_minute": 1000, "usd_per_month": "2.5"}

    assert admin_client.post(f"{LIST}add/", form).status_code == 302

    page = admin_client.get(LIST).content.decode()
    assert "Key Open WebUI" in page
    assert "1,000 requests a minute, $2.50 a month" in page


def test_limit_without_numbers_is_shown_as_free(admin_client: Client) -> None:
    Limit.objects.create()

    assert "without limit" in admin_client.get(LIST).content.decode()


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"burst": 0}, "burst"),
        ({"requests_per_day": -1}, "requests_per_day"),
        *[
            ({"usd_per_month": odd}, "usd_per_month")
            for odd in ("0", "-1", "0.001", "NaN", "sNaN", "Infinity", "1e400", "1e5000000", "9" * 50)
        ],
        ({"tokens_per_day": "9" * 50}, "tokens_per_day"),
        ({"agents": "a b"}, "agents"),
        ({"per": "day"}, "per"),
    ],
)
def test_what_makes_no_sense_is_refused_at_its_field(admin_client: Client, fields: Any, field: str) -> None:
    assert list(errors(admin_client, **fields)) == [field]


def test_limit_is_for_a_key_or_a_team(admin_client: Client) -> None:
    team = Team.objects.create(name="Research")

    told = errors(admin_client, key=ApiKeyFactory().pk, team=team.pk)

    assert told == {"__all__": ["Choose a key or a team, or neither for everyone."]}


def test_list_shows_how_far_the_fullest_is(admin_client: Client) -> None:
    key = ApiKeyFactory()
    Limit.objects.create(requests_per_minute=4)
    live_config.refresh()
    subject, target = Subject(Key(key.pk, "k")), Target("default/plain")
    async_to_sync(admit)(subject, target, Decision(True, "granted", "Allowed."))
    keeper._history = lambda _before: [PastUse(key.pk, "", "default/plain", 1, 10, 0.0)]
    try:
        page = admin_client.get(LIST).content.decode()
    finally:
        keeper._history = lambda _before: ()

    assert "1 of 4 requests" in page
    assert "width: 25%" in page


def test_list_costs_the_same_with_many(admin_client: Client) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as asked:
            admin_client.get(LIST)
        return len(asked)

    Limit.objects.create(key=ApiKeyFactory())
    live_config.refresh()
    queries()
    with_one = queries()
    for _ in range(5):
        Limit.objects.create(key=ApiKeyFactory())
    live_config.refresh()

    assert queries() == with_one


def test_price_is_added_and_listed(admin_client: Client) -> None:
    form = {"model": "gpt-5*", "prompt_usd": "1.25", "completion_usd": "10"}

    assert admin_client.post(f"{PRICES}add/", form).status_code == 302

    page = admin_client.get(PRICES).content.decode()
    assert [text in page for text in ("gpt-5*", "$1.25", "as the prompt", "$10.00")] == [True] * 4
    assert ModelPrice.objects.get().cached_usd is None


def test_price_of_a_million_a_million_is_refused_in_words(admin_client: Client) -> None:
    form = {"model": "gpt-5*", "prompt_usd": "1000000", "completion_usd": "999999"}
    page = admin_client.post(f"{PRICES}add/", form)
    assert page.context["adminform"].form.errors == {
        "prompt_usd": ["Ensure that there are no more than 6 digits before the decimal point."]
    }
    assert ModelPrice.objects.count() == 0


def test_highest_price_is_counted(admin_client: Client) -> None:
    highest = "999999.999999"
    admin_client.post(f"{PRICES}add/", {"model": "*", "prompt_usd": highest, "completion_usd": highest})
    live_config.refresh()
    assert cost([ModelCall("box", "any", 600_000, 400_000)]) == pytest.approx(float(highest))
