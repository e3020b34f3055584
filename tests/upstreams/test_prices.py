"""Which price holds, and what calls cost by it."""

import pytest

from apps.core import live_config
from apps.upstreams.calls import ModelCall
from apps.upstreams.models import ModelPrice
from apps.upstreams.prices import Price, PriceList, cost
from tests.factories import UpstreamFactory


def price(model: str, upstream: str = "", usd: float = 1.0) -> Price:
    return Price(upstream, model, usd, usd, usd)


@pytest.mark.parametrize(
    ("prices", "expected"),
    [
        ([price("*"), price("gpt-*"), price("gpt-5")], "gpt-5"),
        ([price("gpt-5"), price("*", "openai")], "*"),  # the upstream's own stands before
        ([price("gpt-5", "azure"), price("GPT*")], "GPT*"),
        ([price("claude*")], None),
        ([], None),
    ],
)
def test_the_most_specific_price_holds(prices: list[Price], expected: str | None) -> None:
    found = PriceList.of(prices).price("openai", "gpt-5")

    assert (found.model if found else None) == expected


def test_cached_tokens_are_part_of_the_prompt() -> None:
    call = ModelCall("openai", "gpt-5", prompt_tokens=1_000_000, completion_tokens=500_000, cached_tokens=400_000)

    assert Price("", "*", prompt=10, cached=1, completion=40).of(call) == pytest.approx(6 + 0.4 + 20)


@pytest.mark.django_db
def test_cost_is_that_of_the_calls_that_have_a_price() -> None:
    live_config.forget()
    calls = [ModelCall("box", "qwen", 1000, 100), ModelCall("box", "other", 1000, 100), ModelCall("b2", "qwen", 10, 0)]
    assert cost(calls) is None

    box = UpstreamFactory(slug="box")
    ModelPrice.objects.create(model="qwen*", prompt_usd=2, completion_usd=4)
    ModelPrice.objects.create(model="qwen", upstream=box, prompt_usd=1, completion_usd=4)
    live_config.refresh()

    assert cost(calls) == pytest.approx((1000 + 400 + 20) / 1_000_000)
    assert cost(calls[1:2]) is None
    assert cost([]) is None
    live_config.forget()
