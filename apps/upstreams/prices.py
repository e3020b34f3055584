"""What calls to models cost, by the operators' price list, in memory."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import msgspec

from apps.core import globs, live_config
from apps.core.remember import remember
from apps.upstreams.calls import ModelCall
from apps.upstreams.models import ModelPrice, Upstream

_MILLION = 1_000_000
_MOST_REMEMBERED = 10_000


class Price(msgspec.Struct, frozen=True, gc=False):
    """USD per million tokens. `upstream` is empty for any."""

    upstream: str
    model: str
    prompt: float
    cached: float
    completion: float

    @property
    def exactness(self) -> tuple[object, ...]:
        return bool(self.upstream), globs.specificity(self.model)

    def of(self, call: ModelCall) -> float:
        """In USD. Cached tokens are among those of the prompt."""
        fresh = max(0, call.prompt_tokens - call.cached_tokens)
        usd = fresh * self.prompt + call.cached_tokens * self.cached + call.completion_tokens * self.completion
        return usd / _MILLION


@dataclass(slots=True)
class PriceList:
    """A price for the upstream beats one for any; then the more exact glob over model names wins."""

    prices: tuple[Price, ...] = ()
    _found: dict[tuple[str, str], Price | None] = field(default_factory=dict)

    @classmethod
    def of(cls, prices: Iterable[Price]) -> "PriceList":
        return cls(tuple(sorted(prices, key=lambda price: price.exactness, reverse=True)))

    def price(self, upstream: str, model: str) -> Price | None:
        question = (upstream, model)
        if question not in self._found:
            return remember(self._found, question, next(self._fitting(upstream, model), None), most=_MOST_REMEMBERED)
        return self._found[question]

    def _fitting(self, upstream: str, model: str) -> Iterator[Price]:
        return (one for one in self.prices if one.upstream in ("", upstream) and globs.fits(model, one.model))


def _price(row: ModelPrice) -> Price:
    cached = row.prompt_usd if row.cached_usd is None else row.cached_usd
    upstream = row.upstream.slug if row.upstream else ""
    return Price(upstream, row.model, float(row.prompt_usd), float(cached), float(row.completion_usd))


def _load() -> PriceList:
    return PriceList.of(_price(row) for row in ModelPrice.objects.select_related("upstream"))


_PRICES = live_config.section("upstreams.prices", _load, reads=[ModelPrice, Upstream])


def cost(calls: Iterable[ModelCall]) -> float | None:
    """USD of those calls whose model has a price; None when none has. Estimated tokens count like others.

    A float, not a Decimal: token counts may be estimates, and sums of millions of runs are exact to a millionth.
    """
    known = _PRICES.current()
    if not known.prices:
        return None
    priced = [price.of(call) for call in calls if (price := known.price(call.upstream, call.model))]
    return sum(priced) if priced else None
