"""What the list of runs can be narrowed by. No choice is found by reading the runs, which may be millions."""

# mypy: disable-error-code="misc"
# django-unfold ships no types: its classes are Any to mypy.

from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from apps.access.models import ApiKey
from apps.catalog.models import DeclaredAgent, DropIn
from apps.core import clock
from apps.execution.models import Outcome, Run, RunBucket

_MOST = 300  # choices of a kind
_SEEN_WITHIN = timedelta(days=7)
_TIMES = {"hour": ("Last hour", timedelta(hours=1)), "day": ("24 hours", timedelta(days=1)),
          "week": ("7 days", timedelta(days=7))}  # fmt: skip


class TimeFilter(admin.SimpleListFilter):
    title = "time"
    parameter_name = "within"
    horizontal = True  # of unfold's: the choices stand side by side

    def lookups(self, _request: HttpRequest, _model_admin: Any) -> list[tuple[str, str]]:
        return [(value, words) for value, (words, _) in _TIMES.items()]

    def queryset(self, _request: HttpRequest, queryset: QuerySet[Run]) -> QuerySet[Run]:
        if self.value() not in _TIMES:
            return queryset
        return queryset.filter(started_at__gte=clock.now() - _TIMES[str(self.value())][1])


class ChosenFilter(admin.SimpleListFilter):
    """One of many: a box to choose from, not a list of links."""

    template = "console/chosen_filter.html"

    def has_output(self) -> bool:
        """Also with nothing to choose from: a link may name what ran and is gone."""
        return True

    def choices(self, changelist: Any) -> Iterator[Any]:
        """One "choice": what the template needs. A value that is not offered (an old link's) is shown all the same."""
        offered = [*self.lookup_choices]
        if self.value() and self.value() not in {str(value) for value, _ in offered}:
            offered.insert(0, (str(self.value()), str(self.value())))
        yield {
            "name": self.parameter_name,
            "options": [(value, words, str(value) == self.value()) for value, words in offered],
            "kept": [
                (name, value)
                for name, values in changelist.filter_params.items()
                for value in values
                if name != self.parameter_name
            ],
            "query": changelist.query,
            "clear": changelist.get_query_string(remove=[self.parameter_name]) if self.value() else "",
        }


class AgentFilter(ChosenFilter):
    """The agents that there are, and whatever ran in the last week: models as they are, agents that are gone."""

    title = "agent"
    parameter_name = "agent"

    def lookups(self, _request: HttpRequest, _model_admin: Any) -> list[tuple[str, str]]:
        declared = DeclaredAgent.objects.values_list("namespace", "name")[:_MOST]
        lately = RunBucket.objects.filter(began_at__gte=clock.now() - _SEEN_WITHIN).order_by()
        ids = {
            *DropIn.objects.values_list("agent_id", flat=True)[:_MOST],
            *(f"{namespace}/{name}" for namespace, name in declared),
            *lately.values_list("agent_id", flat=True).distinct()[:_MOST],
        }
        return _paired(sorted(ids))

    def queryset(self, _request: HttpRequest, queryset: QuerySet[Run]) -> QuerySet[Run]:
        return queryset.filter(agent_id=self.value()) if self.value() else queryset


class KeyFilter(ChosenFilter):
    title = "key"
    parameter_name = "key"

    def lookups(self, _request: HttpRequest, _model_admin: Any) -> list[tuple[str, str]]:
        keys = ApiKey.objects.order_by("name").values_list("pk", "name", "prefix")[:_MOST]
        return [(str(pk), f"{name} ({prefix}…)") for pk, name, prefix in keys]

    def queryset(self, _request: HttpRequest, queryset: QuerySet[Run]) -> QuerySet[Run]:
        value = self.value() or ""
        return queryset.filter(key_id=int(value)) if value.isdecimal() and len(value) < 18 else queryset


def quick_filters(changelist: Any) -> Iterator[tuple[str, str, bool]]:
    """Words, link and whether it is on: a click on what is on turns it off."""
    for value, (words, _) in _TIMES.items():
        yield _quick(changelist, TimeFilter.parameter_name, value, words)
    yield _quick(changelist, "outcome__exact", Outcome.FAILED.value, "Failed")


def _quick(changelist: Any, name: str, value: str, words: str) -> tuple[str, str, bool]:
    is_on = value in changelist.filter_params.get(name, ())
    chosen = {"remove": [name, "p"]} if is_on else {"new_params": {name: value}, "remove": ["p"]}
    return words, changelist.get_query_string(**chosen), is_on


def _paired(values: Iterable[str]) -> list[tuple[str, str]]:
    return [(one, one) for one in values]
