"""Model routes in the console: which models answer for a name, in what order, said in words."""

# mypy: disable-error-code="misc, type-arg"
# django-unfold ships no types: its classes are Any to mypy. ModelForm takes no argument at run time.

import json
import re
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.forms import BaseInlineFormSet
from django.http import HttpRequest
from unfold.admin import ModelAdmin, TabularInline
from unfold.utils import display_for_label
from unfold.widgets import UnfoldAdminTextInputWidget

from apps.upstreams.models import ModelRoute, RouteTarget, UpstreamModel

_PATTERN = re.compile(r"[^\s,;]+")


def in_words(pattern: str, choices: Iterable[RouteTarget]) -> str:
    """`gpt-4o → openai/gpt-4o, else ollama/qwen3`. Weights are told where they differ."""
    by_order = groupby(sorted(choices, key=lambda one: one.order), key=lambda one: one.order)
    steps = [_step(list(equals)) for _, equals in by_order]
    return f"{pattern} → {', else '.join(steps) or 'nothing'}"


def _step(equals: list[RouteTarget]) -> str:
    are_weighted = len({one.weight for one in equals}) > 1
    total = sum(one.weight for one in equals)
    shares = [f"{_named(one)} ({round(100 * one.weight / total)} %)" if are_weighted else _named(one) for one in equals]
    return " or ".join(shares)


def _named(choice: RouteTarget) -> str:
    off = "" if choice.upstream.enabled else " (disabled)"
    return f"{choice.upstream.slug}/{choice.model or 'the same name'}{off}"


def unlisted(pattern: str, choices: Iterable[RouteTarget]) -> Iterator[str]:
    """A sentence for each choice whose model its upstream does not list; one that lists nothing may have anything."""
    for choice in choices:
        model = choice.model or ("" if "*" in pattern else pattern)
        names = {one.name for one in choice.upstream.models.all()}
        if model and names and model not in names:
            yield f"{choice.upstream.slug} does not list {model}: it is asked all the same, and may refuse."


class RouteForm(forms.ModelForm):
    class Meta:
        model = ModelRoute
        fields = ["pattern", "enabled", "note"]
        widgets = {"pattern": UnfoldAdminTextInputWidget()}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["pattern"].widget.attrs["data-models"] = json.dumps(_models_by_upstream())

    def clean_pattern(self) -> str:
        pattern: str = self.cleaned_data["pattern"].strip()
        if not _PATTERN.fullmatch(pattern):
            raise ValidationError("One name or one glob, without spaces or commas: gpt-4o, gpt-5*.")
        return pattern


def _models_by_upstream() -> dict[str, list[str]]:
    """What route.js suggests beside each choice, by the upstream's id."""
    found: dict[str, list[str]] = {}
    for upstream, name in UpstreamModel.objects.values_list("upstream", "name"):
        found.setdefault(str(upstream), []).append(name)
    return found


class Choices(BaseInlineFormSet):
    def clean(self) -> None:
        super().clean()
        kept = [form.cleaned_data for form in self.forms if _is_kept(form)]
        if not kept and not any(self.errors):
            raise ValidationError("A route needs at least one choice: an upstream, and a model of it.")
        names = [(one["upstream"], one["model"]) for one in kept]
        if len(set(names)) < len(names):
            raise ValidationError("Two choices are the same upstream and model. Raise the weight of one instead.")


def _is_kept(form: Any) -> bool:
    values = getattr(form, "cleaned_data", {})
    return bool(values.get("upstream")) and not values.get("DELETE")


class ChoicesInline(TabularInline):
    """Whoever may edit a route may edit its choices."""

    model = RouteTarget
    formset = Choices
    fields = ["upstream", "model", "order", "weight"]
    verbose_name_plural = "choices"
    extra = 1
    hide_title = True

    def has_add_permission(self, request: HttpRequest, _obj: Any = None) -> bool:
        return _may(request, "add") or _may(request, "change")

    def has_change_permission(self, request: HttpRequest, _obj: Any = None) -> bool:
        return _may(request, "change")

    def has_delete_permission(self, request: HttpRequest, _obj: Any = None) -> bool:
        return _may(request, "change")

    def has_view_permission(self, request: HttpRequest, _obj: Any = None) -> bool:
        return _may(request, "view") or _may(request, "change")


def _may(request: HttpRequest, verb: str) -> bool:
    return bool(request.user.has_perm(f"upstreams.{verb}_modelroute"))


@admin.register(ModelRoute)
class ModelRouteAdmin(ModelAdmin):
    form = RouteForm
    list_display = ["pattern", "leads", "state", "note"]
    list_filter = ["enabled"]
    list_filter_sheet = False
    search_fields = ["pattern", "note", "targets__model", "targets__upstream__slug"]
    list_before_template = "admin/upstreams/modelroute/where.html"
    inlines = [ChoicesInline]
    fieldsets = [
        (
            None,
            {
                "fields": [("pattern", "enabled"), "note"],
                "description": "The choices of the lowest order are tried first, and weights draw lots among them. "
                "Where none of them answers, those of the next order are tried, until an answer has begun.",
            },
        )
    ]
    empty_title = "No routes"
    empty_text = (
        "A model's name leads to the upstream that lists it, else to the default upstream. Add a route to send a name, "
        "or all that fit a glob, elsewhere, with a second choice for when the first does not answer."
    )

    class Media:
        js = ["console/route.js"]

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).prefetch_related("targets__upstream")

    @admin.display(description="Leads to")
    def leads(self, route: ModelRoute) -> str:
        return in_words(route.pattern, route.targets.all())

    @admin.display(description="State", ordering="enabled")
    def state(self, route: ModelRoute) -> str:
        choices = route.targets.all()
        if not route.enabled:
            words, colour = "Disabled", None
        elif any(one.upstream.enabled for one in choices):
            words, colour = "In force", "success"
        else:
            words, colour = "All its upstreams are disabled" if choices else "Without choices", "danger"
        return str(display_for_label((words, words), "-", {words: colour}))

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        route = form.instance
        choices = list(route.targets.select_related("upstream").prefetch_related("upstream__models"))
        messages.info(request, f"{in_words(route.pattern, choices)}, within a second.")
        for sentence in unlisted(route.pattern, choices):
            messages.warning(request, sentence)
