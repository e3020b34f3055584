"""Grants and tool rules in the console: whom they are for, whether they are in use, and what is odd about them."""

# mypy: disable-error-code="misc, untyped-decorator, type-arg"
# django-unfold ships no types: its classes and decorators are Any to mypy. ModelForm takes no argument at run time.

import re
from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import F, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import mark_safe
from unfold.admin import ModelAdmin
from unfold.decorators import action
from unfold.utils import display_for_label

from apps.access.lint import Lint, Oddity, Remark
from apps.access.models import Grant, StandingRule, ToolRule
from apps.access.overrides import NAME_GLOB
from apps.console.access import known
from apps.core.forms import SuggestingInput, link_to
from apps.core.globs import AGENT_GLOB

EFFECT_COLOURS = {"allow": "success", "deny": "danger"}
IN_USE = "in use"
STATE_COLOURS: dict[str, str] = {IN_USE: "success", Oddity.MATCHES_NOTHING: "warning", Oddity.NEVER_SPEAKS: "danger"}
_PAGES = {"key": "admin:access_apikey_change", "team": "admin:access_team_change"}
_NAMESPACE = re.compile(r"[a-z0-9._-]*", re.IGNORECASE)
_NO_AGENT_GLOB = "This is no glob over agent ids: letters, digits, dots, dashes, slashes and * only."


class RuleForm(forms.ModelForm):
    class Meta:
        fields = ["effect", "key", "team", "namespace", "agents", "note"]
        widgets = {"namespace": SuggestingInput(), "agents": SuggestingInput(), "pattern": SuggestingInput()}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        tools = known.tool_names()
        namespaces = sorted({agent_id.partition("/")[0] for agent_id in tools})
        self._suggest("namespace", namespaces)
        self._suggest("agents", [*(f"{one}/*" for one in namespaces), *tools])
        self._suggest("pattern", sorted({name for names in tools.values() for name in names}))

    def _suggest(self, field: str, texts: list[str]) -> None:
        if field in self.fields:
            self.fields[field].widget.suggestions = tuple(texts[:500])

    def clean_agents(self) -> str:
        glob: str = self.cleaned_data["agents"].strip()
        if not AGENT_GLOB.fullmatch(glob):
            raise ValidationError(_NO_AGENT_GLOB)
        return glob

    def clean_namespace(self) -> str:
        namespace: str = self.cleaned_data["namespace"].strip()
        if not _NAMESPACE.fullmatch(namespace):
            raise ValidationError("A namespace is the part of agent ids before the slash, such as labs, without a *.")
        return namespace

    def clean_pattern(self) -> str:
        glob: str = self.cleaned_data["pattern"].strip()
        if not NAME_GLOB.fullmatch(glob):
            raise ValidationError("This is no glob over tool names or modules: it has no spaces, commas or semicolons.")
        return glob


class WhomFilter(admin.SimpleListFilter):
    title = "whom"
    parameter_name = "whom"

    def lookups(self, _request: HttpRequest, _model_admin: Any) -> list[tuple[str, str]]:
        return [("key", "One key"), ("team", "One team"), ("namespace", "A namespace"), ("everyone", "Everyone")]

    def queryset(self, _request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        match self.value():
            case "key":
                return queryset.filter(key__isnull=False)
            case "team":
                return queryset.filter(team__isnull=False)
            case "namespace":
                return queryset.exclude(namespace="")
            case "everyone":
                return queryset.filter(key__isnull=True, team__isnull=True, namespace="")
            case _:
                return queryset


class OddityFilter(admin.SimpleListFilter):
    title = "state"
    parameter_name = "state"

    def lookups(self, _request: HttpRequest, _model_admin: Any) -> list[tuple[str, str]]:
        return [(IN_USE, "In use"), *((one.value, one.value.capitalize()) for one in Oddity)]

    def queryset(self, _request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if not self.value():
            return queryset
        look = look_at(queryset.model)
        return queryset.filter(pk__in=[row.pk for row in queryset if _state(look(row)) == self.value()])


class RuleAdmin(ModelAdmin):
    form = RuleForm
    list_filter = ["effect", WhomFilter, OddityFilter]
    list_filter_sheet = False
    list_select_related = ["key", "team"]
    autocomplete_fields = ["key", "team"]
    # Those that speak first first, the rules of one subject together.
    ordering = [F("key_id").desc(nulls_last=True), F("team_id").desc(nulls_last=True), "-namespace", "agents", "effect"]
    readonly_fields = ["state_shown", "created_at"]
    _whom = (
        "For whom",
        {
            "fields": [("key", "team"), "namespace"],
            "description": "One of them; none for everyone. A rule for a key beats one for its team, that beats one "
            "for the agent's namespace, that beats one for everyone.",
        },
    )

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """The rows know what is odd about them."""
        shown = super().get_changelist_instance(request)
        if shown.result_list:
            look = look_at(self.model)
            for row in shown.result_list:
                row.remarks = look(row)
        return shown

    @admin.display(description="Effect", ordering="effect")
    def effect_shown(self, row: StandingRule) -> str:
        return effect_label(row.effect)

    @admin.display(description="For")
    def whom_shown(self, row: StandingRule) -> str:
        return whom_link(row)

    @admin.display(description="State")
    def state_shown(self, row: Any) -> str:
        remarks = row.remarks if hasattr(row, "remarks") else look_at(self.model)(row)
        return remarks_shown(remarks)

    def save_model(self, request: HttpRequest, obj: StandingRule, form: RuleForm, change: bool) -> None:
        super().save_model(request, obj, form, change)
        for remark in look_at(self.model)(obj):
            messages.warning(request, remark.text)


@admin.register(Grant)
class GrantAdmin(RuleAdmin):
    list_display = ["agents", "effect_shown", "whom_shown", "state_shown", "note"]
    search_fields = ["agents", "note", "key__name", "team__name", "namespace"]
    actions_list = ["settings"]
    add_fieldsets = [("Rule", {"fields": ["effect", "agents", "note"]}), RuleAdmin._whom]  # noqa: SLF001  # its own
    fieldsets = [("State", {"fields": [("state_shown", "created_at")]}), *add_fieldsets]
    empty_title = "No grants"
    empty_text = (
        "No key may use any agent. Grant * to everyone to open all of them, default/* to a team, or name agents on a "
        "key's page. The more exact rule wins, and deny beats allow."
    )

    @action(description="Settings", icon="tune", permissions=["view"])
    def settings(self, _request: HttpRequest) -> HttpResponse:
        return redirect("admin:access_accesssettings_changelist")


@admin.register(ToolRule)
class ToolRuleAdmin(RuleAdmin):
    list_display = ["pattern", "by", "effect_shown", "agents", "whom_shown", "state_shown", "note"]
    list_filter = ["effect", "by", WhomFilter, OddityFilter]
    search_fields = ["pattern", "agents", "note", "key__name", "team__name", "namespace"]
    add_fieldsets = [
        ("Rule", {"fields": [("effect", "by"), "pattern", "agents", "note"]}),
        RuleAdmin._whom,  # noqa: SLF001  # its own
    ]
    fieldsets = [("State", {"fields": [("state_shown", "created_at")]}), *add_fieldsets]
    empty_title = "No tool rules"
    empty_text = (
        "Every tool may be called. Deny one by its name, such as delete_*, or by the module of its function, such as "
        "os.* or mcp.github, for everyone or for whom you choose."
    )


# --- what is odd -----------------------------------------------------------------------------------------------------


def look_at(model: type[StandingRule]) -> Callable[[StandingRule], list[Remark]]:
    """Reads the rules of a model and the catalog once; what it returns says what is odd about a row."""
    lint, tools = Lint(row.rule() for row in model.objects.all()), known.tool_names()
    return lambda row: lint.remarks(row.rule(), tools)


def _state(remarks: list[Remark]) -> str:
    return remarks[-1].oddity.value if remarks else IN_USE


def remarks_shown(remarks: list[Remark]) -> str:
    """The graver one as a label, and why."""
    state = _state(remarks)
    label = str(display_for_label((state, state.capitalize()), "-", STATE_COLOURS))
    if not remarks:
        return label
    why = '<div style="max-width: 24rem; white-space: normal">{}<span class="block text-xs">{}</span></div>'
    return format_html(why, mark_safe(label), remarks[-1].text)  # noqa: S308  # a template of unfold's


def effect_label(effect: str) -> str:
    return str(display_for_label((effect, effect.capitalize()), "-", EFFECT_COLOURS))


def whom_link(row: Any) -> str:
    """For whom a rule is, with a link to the key or team."""
    for name in ("key", "team"):
        if subject := getattr(row, name, None):
            return format_html("<span>{} {}</span>", name, link_to(reverse(_PAGES[name], args=[subject.pk]), subject))
    return getattr(row, "whom", "everyone")
