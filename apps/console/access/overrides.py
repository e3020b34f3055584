"""Temporary exceptions in the console: made for a while, listed with the time left, taken back."""

# mypy: disable-error-code="misc, untyped-decorator, type-arg"
# django-unfold ships no types: its classes and decorators are Any to mypy. ModelForm takes no argument at run time.

from datetime import datetime, timedelta
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import F, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils.timesince import timesince, timeuntil
from unfold.admin import ModelAdmin
from unfold.decorators import action
from unfold.enums import ActionVariant
from unfold.utils import display_for_label
from unfold.widgets import UnfoldAdminIntegerFieldWidget, UnfoldAdminRadioSelectWidget

from apps.access.admin.asking import tell
from apps.access.lint import fits_nothing
from apps.access.models import Override
from apps.access.overrides import LONGEST, NAME_GLOB, end_override, override
from apps.access.policy import Effect, Kind
from apps.console.access import known
from apps.console.access.rules import effect_label, whom_link
from apps.core import clock
from apps.core.forms import SuggestingInput
from apps.core.globs import AGENT_GLOB

_STATE_COLOURS = {"in force": "success", "soon": "warning", "ended": None, "expired": None}
_SOON = timedelta(minutes=10)
_CUSTOM = "minutes"


class OverrideForm(forms.ModelForm):
    duration = forms.ChoiceField(
        label="For how long",
        choices=[("3600", "1 hour"), ("28800", "8 hours"), ("604800", "7 days"), (_CUSTOM, "as many minutes as below")],
        initial="3600",
        widget=UnfoldAdminRadioSelectWidget(),
        help_text="It ends by itself, in every worker.",
    )
    minutes = forms.IntegerField(
        required=False,
        min_value=1,
        max_value=LONGEST // timedelta(minutes=1),
        widget=UnfoldAdminIntegerFieldWidget(),
        help_text=f"At most {LONGEST.days} days; what shall hold for longer is a grant.",
    )

    class Meta:
        model = Override
        fields = ["effect", "about", "pattern", "key", "reason"]
        widgets = {"pattern": SuggestingInput()}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "pattern" in self.fields:
            tools = known.tool_names()
            names = sorted({name for names in tools.values() for name in names})
            self.fields["pattern"].widget.suggestions = (*list(tools)[:500], *names[:500])

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        pattern = cleaned.get("pattern", "").strip()
        glob = AGENT_GLOB if cleaned.get("about") == Kind.AGENT else NAME_GLOB
        if pattern and not glob.fullmatch(pattern):
            self.add_error("pattern", f"This is no glob over {cleaned.get('about')} names; * is any text.")
        if cleaned.get("duration") == _CUSTOM and not cleaned.get("minutes") and "minutes" not in self.errors:
            self.add_error("minutes", "Say how many minutes.")
        return cleaned | {"pattern": pattern}

    @property
    def ttl(self) -> timedelta:
        duration = self.cleaned_data["duration"]
        if duration == _CUSTOM:
            return timedelta(minutes=self.cleaned_data["minutes"])
        return timedelta(seconds=int(duration))

    def clean_reason(self) -> str:
        reason: str = self.cleaned_data["reason"].strip()
        if not reason:
            raise ValidationError("Say why: whoever finds this override has to know.")
        return reason


class StateFilter(admin.SimpleListFilter):
    title = "state"
    parameter_name = "state"

    def lookups(self, _request: HttpRequest, _model_admin: Any) -> list[tuple[str, str]]:
        return [("in-force", "In force"), ("over", "Over")]

    def queryset(self, _request: HttpRequest, queryset: Any) -> Any:
        in_force = Override.objects.in_force(clock.now()).values("pk")
        match self.value():
            case "in-force":
                return queryset.filter(pk__in=in_force)
            case "over":
                return queryset.exclude(pk__in=in_force)
            case _:
                return queryset


@admin.register(Override)
class OverrideAdmin(ModelAdmin):
    form = OverrideForm
    list_display = ["pattern", "about", "effect_shown", "whom_shown", "time_left", "reason", "author"]
    list_filter = [StateFilter, "effect", "about"]
    list_filter_sheet = False
    list_select_related = ["key"]
    search_fields = ["pattern", "reason", "author", "key__name"]
    autocomplete_fields = ["key"]
    ordering = [F("ended_at").asc(nulls_first=True), "-expires_at"]  # those in force first
    actions = ["end"]
    actions_detail = ["end_this"]
    add_fieldsets = [
        ("What", {"fields": [("effect", "about"), "pattern"]}),
        ("For whom", {"fields": ["key"], "description": "An override beats every grant and every tool rule."}),
        ("How long, and why", {"fields": ["duration", "minutes", "reason"]}),
    ]
    fieldsets = [
        ("State", {"fields": ["time_left", ("expires_at", "ended_at")]}),
        ("Override", {"fields": [("effect_shown", "about"), ("pattern", "whom_shown")]}),
        ("Why", {"fields": ["reason", ("author", "created_at")]}),
    ]
    readonly_fields = ["time_left", "effect_shown", "whom_shown", "author", "created_at", "expires_at", "ended_at"]
    empty_title = "No overrides"
    empty_text = (
        "An override allows or denies something for a while, past every grant and tool rule, and ends by itself. The "
        "page of denials offers one beside each refusal."
    )

    @admin.display(description="Time left", ordering="expires_at")
    def time_left(self, made: Override) -> str:
        return time_left_shown(made, clock.now())

    @admin.display(description="Effect", ordering="effect")
    def effect_shown(self, made: Override) -> str:
        return effect_label(made.effect)

    @admin.display(description="For")
    def whom_shown(self, made: Override) -> str:
        return whom_link(made)

    def has_change_permission(self, request: HttpRequest, obj: Override | None = None) -> bool:
        """What was made stays as it was, to be looked up. The list's action needs the permission in general."""
        return obj is None and bool(super().has_change_permission(request))

    def has_delete_permission(self, request: HttpRequest, obj: Override | None = None) -> bool:
        """What is in force is ended first."""
        is_over = isinstance(obj, Override) and obj.state(clock.now()) != "in force"
        return is_over and bool(super().has_delete_permission(request, obj))

    def save_model(self, request: HttpRequest, obj: Override, form: OverrideForm, _change: bool) -> None:
        chosen = form.cleaned_data
        made = override(
            effect=Effect(chosen["effect"]),
            about=Kind(chosen["about"]),
            pattern=chosen["pattern"],
            ttl=form.ttl,
            reason=chosen["reason"],
            author=request.user.get_username(),
            key=chosen["key"],
        )
        obj.__dict__.update(made.__dict__)
        if fits_nothing(made.rule(), known.tool_names()):
            messages.warning(request, f"{made.pattern} fits nothing that is known now. Check the spelling.")

    @admin.action(description="End now", permissions=["change"])
    def end(self, request: HttpRequest, queryset: QuerySet[Override]) -> None:
        ended = sum(self._end(request, made) for made in queryset)
        tell(request, ended, "override", "ended, in all workers within a second")

    @action(
        description="End now",
        icon="block",
        variant=ActionVariant.DANGER,
        permissions=["end_this"],
        dialog={
            "title": "End this override?",
            "description": "Within a second the grants and tool rules speak again.",
            "form_submit_text": "End it",
        },
    )
    def end_this(self, request: HttpRequest, _form: forms.Form, object_id: str) -> HttpResponse:
        made = get_object_or_404(Override, pk=object_id)
        self._end(request, made)
        messages.success(request, "Ended, in all workers within a second.")
        return HttpResponse(headers={"HX-Redirect": reverse("admin:access_override_change", args=[made.pk])})

    def has_end_this_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        is_in_force = Override.objects.in_force(clock.now()).filter(pk=object_id).exists()
        return is_in_force and self.has_change_permission(request)

    def _end(self, request: HttpRequest, made: Override) -> bool:
        ended = end_override(made, author=request.user.get_username(), at=clock.now())
        if ended:
            self.log_change(request, made, "Ended.")
        return ended


def time_left_shown(made: Override, at: datetime) -> str:
    state = made.state(at)
    if made.ended_at:
        words = f"Ended {timesince(made.ended_at, at, depth=1)} ago"
    elif state == "expired":
        words = f"Expired {timesince(made.expires_at, at, depth=1)} ago"
    elif made.expires_at - at < timedelta(minutes=1):
        state, words = "soon", f"{(made.expires_at - at).seconds} seconds left"
    else:
        words = f"{timeuntil(made.expires_at, at, depth=2)} left"
        state = "soon" if made.expires_at - at < _SOON else state
    return str(display_for_label((state, words), "-", _STATE_COLOURS))
