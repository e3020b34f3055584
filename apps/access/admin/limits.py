"""Limits in the console: whom they hold, what they allow, and how far they are used up."""

# mypy: disable-error-code="misc, type-arg"
# django-unfold ships no types: its classes are Any to mypy. ModelForm takes no argument at run time.

from collections.abc import Mapping
from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.html import format_html
from unfold.admin import ModelAdmin

from apps.access.decide import LimitState
from apps.access.limit_models import Limit
from apps.access.limiting import fullest
from apps.access.limits.rules import QUOTAS

_SHORT = {
    "burst": "{:,} a second",
    "requests_per_minute": "{:,} requests a minute",
    "requests_per_day": "{:,} a day",
    "concurrent_runs": "{:,} at once",
    "tokens_per_minute": "{:,} tokens a minute",
    "tokens_per_day": "{:,} tokens a day",
    "usd_per_month": "${:,} a month",
}
_NEARLY = 0.8
_BAR = """
<div class="flex flex-col gap-1" style="min-width: 9rem">
  <span>{}</span>
  <div class="bg-base-200 dark:bg-base-700 rounded-full overflow-hidden" style="height: 4px">
    <div class="{}" style="height: 4px; width: {}%"></div>
  </div>
</div>
"""


@admin.register(Limit)
class LimitAdmin(ModelAdmin):
    list_display = ["whom_shown", "per", "agents", "allows", "used", "note"]
    list_display_links = ["whom_shown"]
    list_filter = ["per"]
    list_filter_sheet = False
    list_select_related = ["key", "team"]
    search_fields = ["key__name", "team__name", "agents", "note"]
    autocomplete_fields = ["key"]
    fieldsets = [
        (
            "Whom it holds",
            {
                "fields": [("key", "team"), ("agents", "per"), "note"],
                "description": "A key, the keys of a team, or everyone when both are empty. Of the limits that are "
                "counted for the same thing only the most specific one applies: the key's, else its team's, else "
                "everyone's.",
            },
        ),
        (
            "Requests",
            {
                "fields": [("requests_per_minute", "burst"), ("requests_per_day", "concurrent_runs")],
                "description": "Empty: not limited.",
            },
        ),
        ("Tokens and cost", {"fields": [("tokens_per_minute", "tokens_per_day"), "usd_per_month"]}),
    ]
    empty_title = "No limits"
    empty_text = "Every key may use as much as the LLM servers give. Add a limit for everyone, a team or a key."

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        page = super().get_changelist_instance(request)
        used = fullest([limit.pk for limit in page.result_list])
        for limit in page.result_list:
            limit.state = used.get(limit.pk)
        return page

    @admin.display(description="Whom", ordering="key")
    def whom_shown(self, limit: Limit) -> str:
        whom = limit.whom
        return whom[0].upper() + whom[1:]

    @admin.display(description="Allows")
    def allows(self, limit: Limit) -> str:
        numbers: Mapping[str, Any] = {quota.name: getattr(limit, quota.name) for quota in QUOTAS}
        return ", ".join(_SHORT[name].format(number) for name, number in numbers.items() if number) or "without limit"

    @admin.display(description="Fullest now")
    def used(self, limit: Limit) -> str:
        state: LimitState | None = limit.state  # type: ignore[attr-defined]  # get_changelist_instance puts it there
        if state is None:
            return "-"
        share = min(1.0, state.used / state.limit)
        colour = "bg-red-500" if share == 1 else "bg-orange-500" if share >= _NEARLY else "bg-primary-600"
        return format_html(_BAR, f"{state.used:,.4g} of {state.limit:,.10g} {state.unit}", colour, round(share * 100))
