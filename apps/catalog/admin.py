"""The agents of the discovery folders in the console: which serve, why one does not, and how to mend it."""

# mypy: disable-error-code="misc, untyped-decorator, type-arg"
# django-unfold ships no types: its classes and decorators are Any to mypy. ModelForm takes no argument at run time.

import re
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Count, IntegerField, OuterRef, QuerySet, Subquery, Value
from django.db.models.functions import Coalesce
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.utils.text import Truncator
from unfold.admin import ModelAdmin, StackedInline
from unfold.utils import display_for_label

from apps.catalog.models import AgentSettings, Diagnostic, DropIn, State
from apps.core.forms import LinesField

_STATE_COLOURS = {State.LIVE: "success", State.STALE: "warning", State.BROKEN: "danger", State.GONE: None}
_ALIAS = re.compile(r"[a-z0-9][a-z0-9._-]*(/[a-z0-9][a-z0-9._-]*)?")


class SettingsForm(forms.ModelForm):
    aliases = LinesField(
        required=False,
        pattern=_ALIAS,
        wrong="is no model name: lower-case letters, digits, dots and dashes, with at most one slash.",
        help_text="Further model names that it answers to, one a line.",
    )

    class Meta:
        model = AgentSettings
        fields = ["enabled", "aliases", "dry_run", "build_per_run", "own_client"]

    def clean_aliases(self) -> list[str]:
        aliases: list[str] = self.cleaned_data["aliases"]
        taken = DropIn.objects.filter(agent_id__in=aliases).values_list("agent_id", flat=True)
        if taken:
            raise ValidationError(f"An agent is called so already: {', '.join(taken)}.")
        return aliases


class SettingsInline(StackedInline):
    model = AgentSettings
    form = SettingsForm
    fields = ["enabled", "aliases", "dry_run", "build_per_run", "own_client"]
    can_delete = False
    extra = 1
    max_num = 1


class EnabledFilter(admin.SimpleListFilter):
    title = "enabled"
    parameter_name = "enabled"

    def lookups(self, _request: HttpRequest, _model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", "Enabled"), ("no", "Disabled")]

    def queryset(self, _request: HttpRequest, queryset: QuerySet[DropIn]) -> QuerySet[DropIn]:
        disabled = {"settings__enabled": False}
        match self.value():
            case "yes":
                return queryset.exclude(**disabled)
            case "no":
                return queryset.filter(**disabled)
            case _:
                return queryset


@admin.register(DropIn)
class DropInAdmin(ModelAdmin):
    list_display = ["agent_id", "state_shown", "name", "export", "model", "tool_count", "problem", "enabled"]
    list_filter = ["state", EnabledFilter]
    list_filter_sheet = False
    search_fields = ["agent_id", "name", "description"]
    actions = ["enable", "disable"]
    inlines = [SettingsInline]
    fieldsets = [
        ("State", {"fields": ["state_shown", "problems"]}),
        (
            "Agent",
            {
                "fields": [
                    ("agent_id", "name"), "description", "folder", ("export", "model"),
                    ("tools_shown", "handoffs_shown"), ("loaded_at", "version"),
                ]
            },
        ),
    ]  # fmt: skip
    readonly_fields = [
        "state_shown", "problems", "agent_id", "name", "description", "folder", "export", "model", "tools_shown",
        "handoffs_shown", "loaded_at", "version",
    ]  # fmt: skip
    empty_title = "No agents yet"

    @property
    def empty_text(self) -> str:
        folder = settings.GATEWAY_AGENT_DISCOVERY_PATH[0]
        return (
            f"Copy an Agents SDK module to {folder}/Weather/agent.py.\n"
            f"Within two seconds it is listed here and answers as default/weather; "
            f"`manage.py check_agent` says beforehand whether it will."
        )

    def get_queryset(self, request: HttpRequest) -> Any:
        found = Diagnostic.objects.filter(agent_id=OuterRef("agent_id"))
        count = found.order_by().values("agent_id").annotate(number=Count("pk")).values("number")
        return (
            super()
            .get_queryset(request)
            .select_related("settings")
            .annotate(
                diagnostic_count=Coalesce(Subquery(count, output_field=IntegerField()), Value(0)),
                first_reason=Subquery(found.order_by("severity", "pk").values("reason")[:1]),
            )
        )

    @admin.display(description="State", ordering="state")
    def state_shown(self, drop_in: DropIn) -> str:
        state = (drop_in.state, drop_in.get_state_display())
        return str(display_for_label(state, "-", _STATE_COLOURS))

    @admin.display(description="Enabled", boolean=True)
    def enabled(self, drop_in: DropIn) -> bool:
        return not hasattr(drop_in, "settings") or drop_in.settings.enabled

    @admin.display(description="Version")
    def version(self, drop_in: DropIn) -> str:
        return drop_in.digest[:12] or "-"

    @admin.display(description="Tools")
    def tool_count(self, drop_in: DropIn) -> int:
        return len(drop_in.tools)

    @admin.display(description="Problem", empty_value="-")
    def problem(self, drop_in: Any) -> str | None:
        if not drop_in.diagnostic_count:
            return None
        more = f" (and {drop_in.diagnostic_count - 1} more)" if drop_in.diagnostic_count > 1 else ""
        return Truncator(drop_in.first_reason).chars(90) + more

    @admin.display(description="Problems")
    def problems(self, drop_in: DropIn) -> str:
        found = Diagnostic.objects.filter(agent_id=drop_in.agent_id)
        return render_to_string("admin/catalog/dropin/problems.html", {"diagnostics": found, "drop_in": drop_in})

    @admin.display(description="Tools")
    def tools_shown(self, drop_in: DropIn) -> str:
        return _listed(drop_in.tools)

    @admin.display(description="Handoffs")
    def handoffs_shown(self, drop_in: DropIn) -> str:
        return _listed(drop_in.handoffs)

    @admin.action(description="Enable", permissions=["change"])
    def enable(self, request: HttpRequest, queryset: QuerySet[DropIn]) -> None:
        _tell(request, set_enabled(queryset, enabled=True), "enabled")

    @admin.action(description="Disable", permissions=["change"])
    def disable(self, request: HttpRequest, queryset: QuerySet[DropIn]) -> None:
        _tell(request, set_enabled(queryset, enabled=False), "disabled: not listed, and a chat with it is refused")

    def has_add_permission(self, _request: HttpRequest) -> bool:
        return False  # a folder makes one

    def has_delete_permission(self, request: HttpRequest, obj: DropIn | None = None) -> bool:
        is_gone = isinstance(obj, DropIn) and obj.state == State.GONE
        return is_gone and bool(super().has_delete_permission(request, obj))


@transaction.atomic
def set_enabled(drop_ins: QuerySet[DropIn], *, enabled: bool) -> int:
    """Enable or disable these agents, in all workers within a second; returns how many."""
    ids = list(drop_ins.values_list("pk", flat=True))
    changed = AgentSettings.objects.filter(drop_in__in=ids).update(enabled=enabled)
    without = DropIn.objects.filter(pk__in=ids, settings__isnull=True)
    created = AgentSettings.objects.bulk_create([AgentSettings(drop_in=one, enabled=enabled) for one in without])
    return int(changed) + len(created)


def _listed(entries: list[Any]) -> str:
    """Names, whether discovery stored names or objects with one."""
    names = [str(entry.get("name", entry)) if isinstance(entry, dict) else str(entry) for entry in entries]
    return ", ".join(names) or "none"


def _tell(request: HttpRequest, count: int, what: str) -> None:
    messages.success(request, f"{count} {'agent' if count == 1 else 'agents'} {what}.")
