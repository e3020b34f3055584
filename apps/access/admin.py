"""API keys in the console: issue (shown once), limit, end."""

# mypy: disable-error-code="misc, untyped-decorator, type-arg"
# django-unfold ships no types: its classes and decorators are Any to mypy. ModelForm takes no argument at run time.

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import reverse
from unfold.admin import ModelAdmin
from unfold.decorators import action
from unfold.enums import ActionVariant
from unfold.utils import display_for_label

from apps.access import limit_admin  # noqa: F401  # registers its page
from apps.access.keys import grant_only, issue_key
from apps.access.models import ApiKey, ApiKeyQuerySet
from apps.core import clock
from apps.core.forms import LinesField
from apps.core.globs import AGENT_GLOB

SOON = timedelta(days=14)
_STATE_COLOURS = {"active": "success", "soon": "warning", "expired": "warning", "revoked": "danger"}
EXTENSION = timedelta(days=90)


class ApiKeyForm(forms.ModelForm):
    agents = LinesField(
        initial=["*"],
        required=False,
        pattern=AGENT_GLOB,
        wrong="is no glob over agent ids: letters, digits, dots, dashes, slashes and * only.",
        help_text="The agent ids that this key may use, one glob a line: * is any text, as in default/* or *planner*. "
        "Each is a grant of the key's own. None: only what its team, the namespaces and everyone are granted.",
    )

    class Meta:
        model = ApiKey
        fields = ["name", "owner", "team", "may_chat", "may_administer", "expires_at"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk:
            self.initial["agents"] = self.instance.globs

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if not (cleaned.get("may_chat") or cleaned.get("may_administer")):
            raise ValidationError("A key with no scope could do nothing: allow chat, admin or both.")
        return cleaned

    def clean_expires_at(self) -> Any:
        ends = self.cleaned_data["expires_at"]
        if ends and self.instance.pk is None and ends <= clock.now():
            raise ValidationError("A new key must end in the future; leave both fields empty for one that never ends.")
        return ends


class StateFilter(admin.SimpleListFilter):
    title = "state"
    parameter_name = "state"

    def lookups(self, _request: HttpRequest, _model_admin: Any) -> list[tuple[str, str]]:
        return [("active", "Active"), ("soon", "Expires soon"), ("expired", "Expired"), ("revoked", "Revoked")]

    def queryset(self, _request: HttpRequest, queryset: Any) -> Any:
        now = clock.now()
        match self.value():
            case "active":
                return queryset.in_force(now)
            case "soon":
                return queryset.in_force(now).filter(expires_at__lte=now + SOON)
            case "expired":
                return queryset.filter(revoked_at__isnull=True, expires_at__lte=now)
            case "revoked":
                return queryset.filter(revoked_at__isnull=False)
            case _:
                return queryset


@admin.register(ApiKey)
class ApiKeyAdmin(ModelAdmin):
    form = ApiKeyForm
    list_display = ["name", "state_shown", "scopes", "agents_shown", "beginning", "expires_at", "last_used_at"]
    list_filter = [StateFilter, "may_chat", "may_administer"]
    list_filter_sheet = False
    search_fields = ["name", "owner", "prefix"]
    list_select_related = ["team"]
    actions = ["revoke", "expire_now", "extend"]
    actions_detail = ["revoke_this"]
    fieldsets = [
        (None, {"fields": ["name", ("owner", "team"), ("may_chat", "may_administer"), "agents", "expires_at"]}),
        (
            "History",
            {"fields": [("state_shown", "beginning"), ("created_at", "created_by"), ("last_used_at", "revoked_at")]},
        ),
    ]
    add_fieldsets = [
        (None, {"fields": ["name", ("owner", "team"), ("may_chat", "may_administer"), "agents", "expires_at"]})
    ]
    readonly_fields = ["state_shown", "beginning", "created_at", "created_by", "last_used_at", "revoked_at"]
    empty_title = "No API keys"
    empty_text = "Nobody can call the gateway yet. Add a key for each person or application that should."

    def get_queryset(self, request: HttpRequest) -> QuerySet[ApiKey]:
        keys: QuerySet[ApiKey] = super().get_queryset(request).prefetch_related("grants")
        return keys

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

    def has_delete_permission(self, request: HttpRequest, obj: ApiKey | None = None) -> bool:
        """Only what was revoked can be deleted, one by one: a key in use is ended first, and stays to be looked up."""
        return isinstance(obj, ApiKey) and obj.revoked_at is not None and super().has_delete_permission(request, obj)

    # --- issuing -----------------------------------------------------------------------------------------------------

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None) -> Any:
        # Saving leads to the page that shows the key, and nowhere else.
        only_save = {"title": "Issue an API key", "show_save_and_continue": False, "show_save_and_add_another": False}
        return super().add_view(request, form_url, only_save | (extra_context or {}))

    def save_model(self, request: HttpRequest, obj: ApiKey, form: ApiKeyForm, change: bool) -> None:
        if change:
            super().save_model(request, obj, form, change)
            grant_only(obj, form.cleaned_data["agents"])
            return
        issued, credential = issue_key(**form.cleaned_data, created_by=request.user)
        obj.__dict__.update(issued.__dict__)
        request.issued_credential = credential  # type: ignore[attr-defined]  # lives as long as the request, no longer

    def response_add(self, request: HttpRequest, obj: ApiKey, _continue: str | None = None) -> HttpResponse:
        """The one page that shows the key. It is answered directly: a redirect would have to keep it somewhere."""
        credential: str = request.issued_credential  # type: ignore[attr-defined]
        context = self.admin_site.each_context(request) | {
            "title": f"The key “{obj.name}”",
            "opts": self.opts,
            "original": obj,
            "credential": credential,
            "base_url": request.build_absolute_uri("/")[:-1],
            "key_url": reverse("admin:access_apikey_change", args=[obj.pk]),
        }
        return TemplateResponse(request, "admin/access/apikey/issued.html", context)

    # --- ending ------------------------------------------------------------------------------------------------------

    @admin.action(description="Revoke …", permissions=["change"])
    def revoke(self, request: HttpRequest, queryset: ApiKeyQuerySet) -> HttpResponse | None:
        if "confirmed" not in request.POST:
            return self._ask_to_revoke(request, queryset)
        ended = self._logged(request, queryset.filter(revoked_at__isnull=True), "Revoked.")
        count = queryset.revoke(clock.now())
        _tell(request, count, f"revoked, in all workers within a second{_skipped(count, ended)}")
        return None

    @admin.action(description="Expire now", permissions=["change"])
    def expire_now(self, request: HttpRequest, queryset: ApiKeyQuerySet) -> None:
        now = clock.now()
        chosen = self._logged(request, queryset.in_force(now), "Expired.")
        _tell(request, queryset.filter(pk__in=chosen).end(now), "expired")

    @admin.action(description=f"Let end {EXTENSION.days} days from now", permissions=["change"])
    def extend(self, request: HttpRequest, queryset: ApiKeyQuerySet) -> None:
        chosen = self._logged(request, queryset.filter(revoked_at__isnull=True), "Extended.")
        count = queryset.filter(pk__in=chosen).end(clock.now() + EXTENSION)
        _tell(request, count, f"now {'ends' if count == 1 else 'end'} {EXTENSION.days} days from now")

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
        _tell(request, count, "revoked, in all workers within a second")
        return HttpResponse(headers={"HX-Redirect": reverse("admin:access_apikey_change", args=[key.pk])})

    def has_revoke_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        still = ApiKey.objects.filter(pk=object_id, revoked_at__isnull=True).exists()
        return still and bool(self.has_change_permission(request))

    def _ask_to_revoke(self, request: HttpRequest, queryset: ApiKeyQuerySet) -> HttpResponse:
        context = self.admin_site.each_context(request) | {
            "title": "Revoke keys?",
            "opts": self.opts,
            "chosen": queryset.filter(revoked_at__isnull=True),
            "checkbox_name": ACTION_CHECKBOX_NAME,
        }
        return TemplateResponse(request, "admin/access/apikey/revoke.html", context)

    def _logged(self, request: HttpRequest, keys: QuerySet[ApiKey], what: str) -> Sequence[int]:
        rows = list(keys)
        for key in rows:
            self.log_change(request, key, what)
        return [key.pk for key in rows]


def _state(key: ApiKey) -> tuple[str, str]:
    now = clock.now()
    state = key.state(now)
    if state == "active" and key.expires_at and key.expires_at <= now + SOON:
        return "soon", f"Expires in {(key.expires_at - now).days} d"
    return state, state.capitalize()


def _tell(request: HttpRequest, count: int, what: str) -> None:
    level = messages.SUCCESS if count else messages.WARNING
    messages.add_message(request, level, f"{count} {'key' if count == 1 else 'keys'} {what}.")


def _skipped(count: int, asked: Sequence[int]) -> str:
    return "" if count == len(asked) else f" ({len(asked) - count} were already)"
