"""API keys in the console: issue and rotate (shown once), limit, end."""

# mypy: disable-error-code="misc, untyped-decorator, type-arg"
# django-unfold ships no types: its classes and decorators are Any to mypy.

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.timesince import timeuntil
from unfold.admin import ModelAdmin
from unfold.decorators import action
from unfold.enums import ActionVariant
from unfold.utils import display_for_label
from unfold.widgets import (
    UnfoldAdminFileFieldWidget,
    UnfoldAdminRadioSelectWidget,
    UnfoldAdminSelectWidget,
    UnfoldBooleanSwitchWidget,
)

from apps.access.admin.asking import Question, ask, counted, tell
from apps.access.admin.key_form import ApiKeyForm
from apps.access.import_keys import WrongLines, import_keys
from apps.access.keys import NotRotated, end_former_credential, grant_only, issue_key, rotate_key
from apps.access.models import ApiKey, ApiKeyQuerySet, Team
from apps.core import clock

SOON = timedelta(days=14)
EXTENSION = timedelta(days=90)
_STATE_COLOURS = {
    "active": "success", "soon": "warning", "expired": "warning", "revoked": "danger", "suspended": "danger",
}  # fmt: skip


class StateFilter(admin.SimpleListFilter):
    title = "state"
    parameter_name = "state"

    def lookups(self, _request: HttpRequest, _model_admin: Any) -> list[tuple[str, str]]:
        return [
            ("active", "Active"), ("soon", "Expires soon"), ("expired", "Expired"), ("revoked", "Revoked"),
            ("suspended", "Team suspended"),
        ]  # fmt: skip

    def queryset(self, _request: HttpRequest, queryset: Any) -> Any:
        now, state = clock.now(), self.value()
        if state == "soon":
            return queryset.in_force(now).filter(expires_at__lte=now + SOON)
        return queryset.in_state(state, now) if state in dict(self.lookup_choices) else queryset


class RotateForm(forms.Form):
    overlap = forms.TypedChoiceField(
        label="The former credential",
        choices=[
            (0, "stops at once"), (3600, "counts for 1 more hour"), (86400, "counts for 24 more hours"),
            (604800, "counts for 7 more days"),
        ],
        coerce=lambda seconds: timedelta(seconds=int(seconds)),
        initial=86400,
        widget=UnfoldAdminRadioSelectWidget(),
        help_text="The time you need to give the new one to whoever uses the key. If the former one may have leaked, "
        "let it stop at once.",
    )  # fmt: skip


class MoveForm(forms.Form):
    team = forms.ModelChoiceField(
        Team.objects.all(),
        required=False,
        empty_label="no team",
        widget=UnfoldAdminSelectWidget(),
        help_text="What the team is granted and limited to holds for them within a second.",
    )


class ImportForm(forms.Form):
    file = forms.FileField(
        widget=UnfoldAdminFileFieldWidget(),
        help_text="CSV or JSON lines with name, digest (the SHA-256 of the key), and if you like prefix, owner, team, "
        "scopes, agents, expires_at. All lines are imported or none.",
    )
    dry_run = forms.BooleanField(
        label="Only say what would be made", required=False, widget=UnfoldBooleanSwitchWidget()
    )

    def clean_file(self) -> str:
        try:
            text: str = self.cleaned_data["file"].read().decode()
        except UnicodeDecodeError as error:
            raise ValidationError("This is no text in UTF-8. Save it as CSV in UTF-8.") from error
        return text


@admin.register(ApiKey)
class ApiKeyAdmin(ModelAdmin):
    form = ApiKeyForm
    list_display = ["name", "state_shown", "team", "scopes", "agents_shown", "beginning", "expires_at", "last_used"]
    list_filter = [StateFilter, "may_chat", "may_administer", "team"]
    list_filter_sheet = False
    search_fields = ["name", "owner", "prefix"]
    list_select_related = ["team"]
    autocomplete_fields = ["team"]
    actions = ["revoke", "expire_now", "extend", "move"]
    actions_list = ["import_keys"]
    actions_detail = ["access", "rotate", "end_former", "revoke_this"]
    _who = ("Who", {"fields": ["name", ("owner", "team")]})
    _what = ("What", {"fields": [("may_chat", "may_administer"), "agents"]})
    _where = ("Where from", {"fields": ["ip_ranges", "origins"]})
    _ends = ("Ends", {"fields": ["expires_at"]})
    add_fieldsets = [
        _who, _what, _where, ("Persons behind it", {"fields": ["trusts_identity_headers", "identity_secret"]}), _ends,
    ]  # fmt: skip
    fieldsets = [
        (
            "State",
            {"fields": [("state_shown", "beginning"), ("last_used", "former"), ("created_at", "created_by")]},
        ),
        _who,
        _what,
        _where,
        (
            "Persons behind it",
            {"fields": ["trusts_identity_headers", "identity_secret", "clear_identity_secret"]},
        ),
        _ends,
    ]
    readonly_fields = ["state_shown", "beginning", "former", "created_at", "created_by", "last_used"]
    empty_title = "No API keys"
    empty_text = "Nobody can call the gateway yet. Add a key for each person or application that should."

    def get_queryset(self, request: HttpRequest) -> QuerySet[ApiKey]:
        keys: QuerySet[ApiKey] = super().get_queryset(request).prefetch_related("grants")
        return keys

    def get_fieldsets(self, request: HttpRequest, obj: ApiKey | None = None) -> Any:
        fieldsets = super().get_fieldsets(request, obj)
        if obj is None or obj.encrypted_identity_secret:
            return fieldsets
        return [
            (name, options | {"fields": [field for field in options["fields"] if field != "clear_identity_secret"]})
            for name, options in fieldsets
        ]

    @admin.display(description="State")
    def state_shown(self, key: ApiKey) -> str:
        return str(display_for_label(_state(key), "-", _STATE_COLOURS))

    @admin.display(description="Scopes")
    def scopes(self, key: ApiKey) -> str:
        return ", ".join(name for name, has in (("chat", key.may_chat), ("admin", key.may_administer)) if has)

    @admin.display(description="Agents")
    def agents_shown(self, key: ApiKey) -> str:
        globs = key.globs
        few = ", ".join(globs[:3]) + (f" and {len(globs) - 3} more" if len(globs) > 3 else "")
        return "all" if globs == ["*"] else few or "none of its own"

    @admin.display(description="Begins with", ordering="prefix")
    def beginning(self, key: ApiKey) -> str:
        return f"{key.prefix}…"

    @admin.display(description="Last use", ordering="last_used_at")
    def last_used(self, key: ApiKey) -> str:
        return date_format(timezone.localtime(key.last_used_at), "DATETIME_FORMAT") if key.last_used_at else "never"

    @admin.display(description="Former credential")
    def former(self, key: ApiKey) -> str:
        now = clock.now()
        if not (key.previous_until and key.former_counts(now)):
            return "none counts"
        until = f"Counts for {timeuntil(key.previous_until, now, depth=1)} more"
        return str(display_for_label(until, "-", {until: "warning"}))

    def has_delete_permission(self, request: HttpRequest, obj: ApiKey | None = None) -> bool:
        """Only what was revoked can be deleted, one by one: a key in use is ended first, and stays to be looked up."""
        return isinstance(obj, ApiKey) and obj.revoked_at is not None and super().has_delete_permission(request, obj)

    # --- issuing and rotating ----------------------------------------------------------------------------------------

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None) -> Any:
        # Saving leads to the page that shows the key, and nowhere else.
        only_save = {"title": "Issue an API key", "show_save_and_continue": False, "show_save_and_add_another": False}
        return super().add_view(request, form_url, only_save | (extra_context or {}))

    def save_model(self, request: HttpRequest, obj: ApiKey, form: ApiKeyForm, change: bool) -> None:
        agents = form.cleaned_data["agents"]
        names = [*ApiKeyForm.Meta.fields, "encrypted_identity_secret"]
        if change:
            obj.save(update_fields=names)  # these alone: the key may be rotated or revoked at the same moment
            grant_only(obj, agents)
            return
        fields = {name: getattr(obj, name) for name in names}
        issued, credential = issue_key(**fields, agents=agents, created_by=request.user)
        obj.__dict__.update(issued.__dict__)
        request.issued_credential = credential  # type: ignore[attr-defined]  # lives as long as the request, no longer

    def response_add(self, request: HttpRequest, obj: ApiKey, _continue: str | None = None) -> HttpResponse:
        return self._show_once(request, obj, request.issued_credential)  # type: ignore[attr-defined]

    def _show_once(self, request: HttpRequest, key: ApiKey, credential: str) -> HttpResponse:
        """The one page that shows a credential. It is answered directly: a redirect would have to keep it somewhere."""
        context = self.admin_site.each_context(request) | {
            "title": f"The key “{key.name}”",
            "opts": self.opts,
            "original": key,
            "credential": credential,
            "is_rotated": bool(key.previous_digest),
            "former_counts": key.former_counts(clock.now()),
            "base_url": request.build_absolute_uri("/")[:-1],
            "key_url": reverse("admin:access_apikey_change", args=[key.pk]),
        }
        return TemplateResponse(request, "admin/access/apikey/issued.html", context)

    @action(description="Rotate", icon="autorenew", permissions=["rotate"])
    def rotate(self, request: HttpRequest, object_id: str) -> HttpResponse:
        key = get_object_or_404(ApiKey, pk=object_id)
        form = RotateForm(request.POST if "confirmed" in request.POST else None)
        if not form.is_valid():
            sentence = "It gets a new credential, which is shown once. Name, grants, limits and history stay."
            return ask(self, request, [key], Question("Rotate this key?", sentence, "Rotate", form=form))
        try:
            credential = rotate_key(key, at=clock.now(), overlap=form.cleaned_data["overlap"])
        except NotRotated as error:
            messages.error(request, str(error))
            return redirect("admin:access_apikey_change", object_id)
        self.log_change(request, key, "Rotated.")
        return self._show_once(request, key, credential)

    def has_rotate_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        return self.has_revoke_permission(request, object_id)

    @action(
        description="End the former now",
        icon="key_off",
        permissions=["end_former"],
        dialog={
            "title": "End the former credential now?",
            "description": "Whoever still uses it is refused within a second. The new one goes on.",
            "form_submit_text": "End it",
        },
    )
    def end_former(self, request: HttpRequest, _form: forms.Form, object_id: str) -> HttpResponse:
        key = get_object_or_404(ApiKey, pk=object_id)
        end_former_credential(key, at=clock.now())
        self.log_change(request, key, "Former credential ended.")
        messages.success(request, "The former credential counts no more, in all workers within a second.")
        return _back_to(key)

    def has_end_former_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        key = ApiKey.objects.filter(pk=object_id).first()
        return key is not None and key.former_counts(clock.now()) and bool(self.has_change_permission(request))

    @action(description="Access", icon="grid_on", permissions=["view"])
    def access(self, _request: HttpRequest, object_id: str) -> HttpResponse:
        """What it may use, in full: a page of the console, which knows the catalog too."""
        return redirect("console:key_access", object_id)

    @action(description="Import", icon="upload", permissions=["add"])
    def import_keys(self, request: HttpRequest) -> HttpResponse:
        form = ImportForm(request.POST or None, request.FILES or None)
        if form.is_valid() and self._import(request, form):
            return redirect("admin:access_apikey_changelist")
        context = self.admin_site.each_context(request) | {"title": "Import keys", "opts": self.opts, "form": form}
        return TemplateResponse(request, "admin/access/apikey/import.html", context)

    def _import(self, request: HttpRequest, form: ImportForm) -> bool:
        dry_run = form.cleaned_data["dry_run"]
        try:
            imported = import_keys(form.cleaned_data["file"], dry_run=dry_run, created_by=request.user)
        except WrongLines as wrong:
            form.add_error("file", wrong.remarks)
            return False
        if imported.skipped:
            messages.warning(request, f"Skipped, because their digest is here already: {', '.join(imported.skipped)}.")
        tell(request, len(imported.made), "key", "would be made" if dry_run else "made")
        return True

    # --- ending and moving -------------------------------------------------------------------------------------------

    @admin.action(description="Revoke …", permissions=["change"])
    def revoke(self, request: HttpRequest, queryset: ApiKeyQuerySet) -> HttpResponse | None:
        if "confirmed" not in request.POST:
            chosen = list(queryset.filter(revoked_at__isnull=True))
            return ask(self, request, chosen, _whether_to_revoke(len(chosen)))
        ended = self._logged(request, queryset.filter(revoked_at__isnull=True), "Revoked.")
        count = queryset.revoke(clock.now())
        tell(request, count, "key", f"revoked, in all workers within a second{_skipped(count, ended)}")
        return None

    @admin.action(description="Expire now", permissions=["change"])
    def expire_now(self, request: HttpRequest, queryset: ApiKeyQuerySet) -> None:
        now = clock.now()
        chosen = self._logged(request, queryset.in_force(now), "Expired.")
        tell(request, queryset.filter(pk__in=chosen).end(now), "key", "expired")

    @admin.action(description=f"Let end {EXTENSION.days} days from now", permissions=["change"])
    def extend(self, request: HttpRequest, queryset: ApiKeyQuerySet) -> None:
        chosen = self._logged(request, queryset.filter(revoked_at__isnull=True), "Extended.")
        count = queryset.filter(pk__in=chosen).end(clock.now() + EXTENSION)
        tell(request, count, "key", f"now {'ends' if count == 1 else 'end'} {EXTENSION.days} days from now")

    @admin.action(description="Move to team …", permissions=["change"])
    def move(self, request: HttpRequest, queryset: ApiKeyQuerySet) -> HttpResponse | None:
        form = MoveForm(request.POST if "confirmed" in request.POST else None)
        if not form.is_valid():
            question = Question("Move keys to a team", "These keys move:", "Move", "move", form)
            return ask(self, request, list(queryset), question)
        team = form.cleaned_data["team"]
        moved = self._logged(request, queryset, f"Moved to {team or 'no team'}.")
        queryset.filter(pk__in=moved).set_each("team", team)
        tell(request, len(moved), "key", f"moved to {team or 'no team'}")
        return None

    @action(
        description="Revoke",
        icon="block",
        variant=ActionVariant.DANGER,
        permissions=["revoke"],
        dialog={
            "title": "Revoke this key?",
            "description": "Whoever uses it is refused within a second, for good. A revoked key cannot be revived.",
            "form_submit_text": "Revoke",
        },
    )
    def revoke_this(self, request: HttpRequest, _form: forms.Form, object_id: str) -> HttpResponse:
        key = get_object_or_404(ApiKey, pk=object_id)
        count = ApiKey.objects.filter(pk=key.pk).revoke(clock.now())
        self.log_change(request, key, "Revoked.")
        tell(request, count, "key", "revoked, in all workers within a second")
        return _back_to(key)

    def has_revoke_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        still = ApiKey.objects.filter(pk=object_id, revoked_at__isnull=True).exists()
        return still and bool(self.has_change_permission(request))

    def _logged(self, request: HttpRequest, keys: QuerySet[ApiKey], what: str) -> Sequence[int]:
        rows = list(keys)
        for key in rows:
            self.log_change(request, key, what)
        return [key.pk for key in rows]


def _state(key: ApiKey) -> tuple[str, str]:
    now = clock.now()
    state = key.state(now)
    if state == "active" and key.team and key.team.suspended:
        return "suspended", "Team suspended"
    if state == "active" and key.expires_at and key.expires_at <= now + SOON:
        return "soon", f"Expires in {(key.expires_at - now).days} d"
    return state, state.capitalize()


def _whether_to_revoke(count: int) -> Question:
    sentence = "Whoever uses them is refused within a second, for good." if count else "All are revoked already."
    return Question("Revoke keys?", sentence, f"Revoke {counted(count, 'key')}", "revoke", is_dangerous=True)


def _skipped(count: int, asked: Sequence[int]) -> str:
    return "" if count == len(asked) else f" ({len(asked) - count} were already)"


def _back_to(key: ApiKey) -> HttpResponse:
    """The dialog's answer: the browser loads the detail page anew, with the messages on it."""
    return HttpResponse(headers={"HX-Redirect": reverse("admin:access_apikey_change", args=[key.pk])})
