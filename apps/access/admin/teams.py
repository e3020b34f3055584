"""Teams in the console: whose keys belong together, and the kill switch for all of them."""

# mypy: disable-error-code="misc, untyped-decorator, type-arg"
# django-unfold ships no types: its classes and decorators are Any to mypy.

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import Count, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from unfold.admin import ModelAdmin
from unfold.decorators import action
from unfold.enums import ActionVariant
from unfold.forms import BaseDialogForm
from unfold.utils import display_for_label
from unfold.widgets import UnfoldAdminTextInputWidget

from apps.access.admin.asking import Question, ask, counted, tell
from apps.access.models import Team
from apps.core.forms import link_to

_STATE_COLOURS = {"Active": "success", "Suspended": "danger"}


def _reason() -> forms.CharField:
    return forms.CharField(
        label="Why",
        max_length=200,
        widget=UnfoldAdminTextInputWidget(),
        help_text="Told to whoever is refused, such as “a key leaked; ask security@example.com”.",
    )


class SuspendForm(forms.Form):
    reason = _reason()


class SuspendDialog(BaseDialogForm):
    reason = _reason()


@admin.register(Team)
class TeamAdmin(ModelAdmin):
    list_display = ["name", "state_shown", "keys_shown", "suspended_reason", "created_at"]
    list_filter = ["suspended"]
    list_filter_sheet = False
    search_fields = ["name"]
    actions = ["suspend", "resume"]
    actions_detail = ["suspend_this", "resume_this"]
    add_fieldsets = [(None, {"fields": ["name"]})]
    fieldsets = [
        ("State", {"fields": [("state_shown", "suspended_reason"), ("keys_shown", "created_at")]}),
        ("Team", {"fields": ["name"]}),
    ]
    readonly_fields = ["state_shown", "suspended_reason", "keys_shown", "created_at"]
    empty_title = "No teams"
    empty_text = (
        "A team holds keys that are granted, limited and suspended as one. Add one, then choose it on the keys' pages, "
        "or select keys in their list and move them."
    )

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).annotate(key_count=Count("keys"))

    @admin.display(description="State", ordering="suspended")
    def state_shown(self, team: Team) -> str:
        state = "Suspended" if team.suspended else "Active"
        return str(display_for_label(state, "-", _STATE_COLOURS))

    @admin.display(description="Keys", ordering="key_count")
    def keys_shown(self, team: Any) -> str:
        url = f"{reverse('admin:access_apikey_changelist')}?team__id__exact={team.pk}"
        return link_to(url, counted(team.key_count, "key"))

    def has_delete_permission(self, request: HttpRequest, obj: Team | None = None) -> bool:
        """A suspended team has to be resumed first: without the team its keys would work again."""
        return isinstance(obj, Team) and not obj.suspended and bool(super().has_delete_permission(request, obj))

    # --- the kill switch ---------------------------------------------------------------------------------------------

    @admin.action(description="Suspend …", permissions=["change"])
    def suspend(self, request: HttpRequest, queryset: QuerySet[Team]) -> HttpResponse | None:
        form = SuspendForm(request.POST if "confirmed" in request.POST else None)
        chosen = list(queryset.filter(suspended=False))
        if not form.is_valid() or not chosen:
            sentence = "Every key of them is refused within a second." if chosen else "All are suspended already."
            button = f"Suspend {counted(len(chosen), 'team')}"
            question = Question("Suspend teams?", sentence, button, "suspend", form, is_dangerous=True)
            return ask(self, request, chosen, question)
        for team in chosen:
            self._suspend(request, team, form.cleaned_data["reason"])
        tell(request, len(chosen), "team", "suspended, in all workers within a second")
        return None

    @admin.action(description="Resume", permissions=["change"])
    def resume(self, request: HttpRequest, queryset: QuerySet[Team]) -> None:
        chosen = list(queryset.filter(suspended=True))
        for team in chosen:
            self._resume(request, team)
        tell(request, len(chosen), "team", "resumed, in all workers within a second")

    @action(
        description="Suspend",
        icon="power_settings_new",
        variant=ActionVariant.DANGER,
        permissions=["suspend"],
        dialog={
            "title": "Suspend this team?",
            "description": "Every key of it is refused within a second, until you resume the team.",
            "form_class": SuspendDialog,
            "form_submit_text": "Suspend",
        },
    )
    def suspend_this(self, request: HttpRequest, form: SuspendDialog, object_id: str) -> HttpResponse:
        team = get_object_or_404(Team, pk=object_id)
        self._suspend(request, team, form.cleaned_data["reason"])
        messages.success(request, "Its keys are refused, in all workers within a second.")
        return _back_to(team)

    def has_suspend_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        is_active = Team.objects.filter(pk=object_id, suspended=False).exists()
        return is_active and bool(self.has_change_permission(request))

    @action(
        description="Resume",
        icon="play_arrow",
        permissions=["resume"],
        dialog={
            "title": "Resume this team?",
            "description": "Its keys that are neither revoked nor expired work again within a second.",
            "form_submit_text": "Resume",
        },
    )
    def resume_this(self, request: HttpRequest, _form: forms.Form, object_id: str) -> HttpResponse:
        team = get_object_or_404(Team, pk=object_id)
        self._resume(request, team)
        messages.success(request, "Its keys work again, in all workers within a second.")
        return _back_to(team)

    def has_resume_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        is_suspended = Team.objects.filter(pk=object_id, suspended=True).exists()
        return is_suspended and bool(self.has_change_permission(request))

    def _suspend(self, request: HttpRequest, team: Team, reason: str) -> None:
        team.suspend(reason)
        self.log_change(request, team, f"Suspended: {reason}")

    def _resume(self, request: HttpRequest, team: Team) -> None:
        team.resume()
        self.log_change(request, team, "Resumed.")


def _back_to(team: Team) -> HttpResponse:
    """The dialog's answer: the browser loads the detail page anew, with the messages on it."""
    return HttpResponse(headers={"HX-Redirect": reverse("admin:access_team_change", args=[team.pk])})
