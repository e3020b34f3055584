"""What was denied lately, each with its remedy: explain it, or override it for an hour. Read only."""

# mypy: disable-error-code="misc"
# django-unfold ships no types: its classes are Any to mypy.

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from unfold.admin import ModelAdmin

from apps.access.explain import in_words
from apps.access.models import ApiKey, Denial, Grant, Override, ToolRule
from apps.access.policy import Kind, Rule
from apps.console.access import known
from apps.console.facts import facts_shown
from apps.core.ages import ago
from apps.core.forms import link_to

_OVERRIDABLE = frozenset({"no_grant", "denied"})  # an override changes nothing about the rest


class CodeFilter(admin.SimpleListFilter):
    title = "why"
    parameter_name = "code"

    def lookups(self, _request: HttpRequest, _model_admin: Any) -> list[tuple[str, str]]:
        codes = Denial.objects.order_by("code").values_list("code", flat=True).distinct()
        return [(code, code.replace("_", " ").capitalize()) for code in codes]

    def queryset(self, _request: HttpRequest, queryset: QuerySet[Denial]) -> QuerySet[Denial]:
        return queryset.filter(code=self.value()) if self.value() else queryset


@admin.register(Denial)
class DenialAdmin(ModelAdmin):
    list_display = ["last_shown", "count", "key_shown", "target", "message", "rule_shown", "remedies"]
    list_filter = [CodeFilter]
    list_filter_sheet = False
    list_per_page = 50
    search_fields = ["subject", "message", "=request_id", "facts"]
    search_help_text = "Key, agent, tool or request id"
    ordering = ["-last_at"]
    sortable_by = ["count"]
    actions = None
    fieldsets = [
        ("What was denied", {"fields": ["message", ("code", "subject"), "facts_shown"]}),
        ("When", {"fields": ["count", ("first_at", "last_at"), "request_id"]}),
    ]
    readonly_fields = ["facts_shown"]
    empty_title = "Nothing was denied"
    empty_text = (
        "Each request or tool call that was refused is listed here, equal ones counted, with the rule that spoke and "
        "what can be done."
    )

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """The rows know their key and the rule that spoke, as far as those exist still."""
        shown = super().get_changelist_instance(request)
        rules = _rules({row.facts.get("rule") or "" for row in shown.result_list})
        keys = ApiKey.objects.in_bulk({row.facts.get("key_id") for row in shown.result_list})
        for row in shown.result_list:
            row.rule, row.key = rules.get(row.facts.get("rule") or ""), keys.get(row.facts.get("key_id"))
        return shown

    @admin.display(description="Last", ordering="last_at")
    def last_shown(self, row: Denial) -> str:
        return ago(row.last_at)

    @admin.display(description="Key")
    def key_shown(self, row: Any) -> str:
        if row.key is None:
            return f"{row.subject}, gone since"
        return link_to(reverse("admin:access_apikey_change", args=[row.key.pk]), row.key.name)

    @admin.display(description="Wanted")
    def target(self, row: Denial) -> str:
        return str(row.facts.get("target") or row.facts.get("action", ""))

    @admin.display(description="Rule", empty_value="none")
    def rule_shown(self, row: Any) -> str | None:
        if row.rule:
            return link_to(known.rule_url(row.rule), in_words(row.rule))
        return f"{row.facts['rule']}, gone since" if row.facts.get("rule") else None

    @admin.display(description="Facts", empty_value="none")
    def facts_shown(self, row: Denial) -> str | None:
        return facts_shown(row.facts)

    @admin.display(description="What to do")
    def remedies(self, row: Any) -> str:
        links = ((link_to(url, text),) for text, url in _links(row))
        lines = format_html_join("", '<span class="block font-semibold whitespace-nowrap">{}</span>', links)
        return format_html("<div>{}</div>", lines)

    def has_add_permission(self, _request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, _request: HttpRequest, _obj: Denial | None = None) -> bool:
        return False

    def has_delete_permission(self, _request: HttpRequest, _obj: Denial | None = None) -> bool:
        return False


def _rules(ids: Iterable[str]) -> Mapping[str, Rule]:
    """The stored rules of these ids. One query for each kind of rule."""
    found: dict[str, Rule] = {}
    for model in (Grant, ToolRule, Override):
        name = f"{model.__name__.lower()}-"
        keys = [int(id.removeprefix(name)) for id in ids if id.startswith(name) and id.removeprefix(name).isdigit()]
        rows: Iterable[Any] = model.objects.filter(pk__in=keys)
        found |= {f"{name}{row.pk}": row.rule() for row in rows}
    return found


def _links(row: Any) -> Iterable[tuple[str, str]]:
    agent, _, tool = str(row.facts.get("target", "")).partition(" ")
    if not agent or row.key is None:
        return
    yield "Explain", known.explain_url(row.key, agent, tool)
    if row.code in _OVERRIDABLE:
        about, pattern = _what_to_allow(row.rule, agent, tool)
        asked = {"key": row.key.pk, "effect": "allow", "about": about, "pattern": pattern, "duration": 3600}
        yield "Override for 1 hour", f"{reverse('admin:access_override_add')}?{urlencode(asked)}"


def _what_to_allow(rule: Rule | None, agent: str, tool: str) -> tuple[str, str]:
    """A tool has to be allowed by name and by module, so that the override is about whichever was denied."""
    if rule and rule.kind is Kind.MODULE:
        return rule.kind, rule.pattern
    return (Kind.TOOL, tool) if tool else (Kind.AGENT, agent)
