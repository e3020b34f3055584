"""The price list in the console."""

# mypy: disable-error-code="misc"
# django-unfold ships no types: its classes are Any to mypy.

from decimal import Decimal

from django.contrib import admin
from unfold.admin import ModelAdmin

from apps.upstreams.models import ModelPrice


@admin.register(ModelPrice)
class ModelPriceAdmin(ModelAdmin):
    list_display = ["model", "where", "prompt", "cached", "completion"]
    list_select_related = ["upstream"]
    search_fields = ["model", "upstream__slug"]
    fieldsets = [
        (
            None,
            {
                "fields": [("model", "upstream"), ("prompt_usd", "completion_usd"), "cached_usd"],
                "description": "One for an upstream stands before one for any; then the more exact name of the model.",
            },
        )
    ]
    empty_title = "No prices"
    empty_text = "Runs record no cost, and limits in USD limit nothing. Add what the models of your providers cost."

    @admin.display(description="Upstream", ordering="upstream")
    def where(self, price: ModelPrice) -> str:
        return str(price.upstream or "any")

    @admin.display(description="Prompt, per million", ordering="prompt_usd")
    def prompt(self, price: ModelPrice) -> str:
        return _shown(price.prompt_usd)

    @admin.display(description="Cached", ordering="cached_usd")
    def cached(self, price: ModelPrice) -> str:
        return "as the prompt" if price.cached_usd is None else _shown(price.cached_usd)

    @admin.display(description="Completion", ordering="completion_usd")
    def completion(self, price: ModelPrice) -> str:
        return _shown(price.completion_usd)


def _shown(usd: Decimal) -> str:
    """At least cents, no idle zeros behind them."""
    whole, _, fraction = f"{usd:.6f}".partition(".")
    return f"${whole}.{fraction.rstrip('0').ljust(2, '0')}"
