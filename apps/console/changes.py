"""The history of changes in the console. Read only."""

# mypy: disable-error-code="misc"
# django-unfold ships no types: its classes are Any to mypy.

import json
from typing import Any

from auditlog.models import LogEntry
from django.contrib import admin
from django.contrib.contenttypes.models import ContentType
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe
from unfold.admin import ModelAdmin
from unfold.utils import display_for_label

from apps.core.audit import changes

_ACTIONS = {
    LogEntry.Action.CREATE: ("created", "success"),
    LogEntry.Action.UPDATE: ("updated", "info"),
    LogEntry.Action.DELETE: ("deleted", "danger"),
}
_COLOURS = dict(_ACTIONS.values())

admin.site.unregister(LogEntry)
LogEntry._meta.verbose_name, LogEntry._meta.verbose_name_plural = "change", "changes"  # noqa: SLF001  # as the sidebar


class ActionFilter(admin.SimpleListFilter):
    title = "action"
    parameter_name = "action"

    def lookups(self, _request: HttpRequest, _model_admin: Any) -> list[tuple[str, str]]:
        return [(str(number), word.capitalize()) for number, (word, _) in _ACTIONS.items()]

    def queryset(self, _request: HttpRequest, queryset: QuerySet[LogEntry]) -> QuerySet[LogEntry]:
        return queryset.filter(action=self.value()) if self.value() else queryset


class TypeFilter(admin.SimpleListFilter):
    """Those kinds of objects of which something was changed."""

    title = "kind of object"
    parameter_name = "content_type__id__exact"

    def lookups(self, _request: HttpRequest, _model_admin: Any) -> list[tuple[str, str]]:
        kinds = ContentType.objects.filter(pk__in=LogEntry.objects.order_by().values("content_type").distinct())
        return sorted(((str(kind.pk), kind.name.capitalize()) for kind in kinds), key=lambda one: one[1])

    def queryset(self, _request: HttpRequest, queryset: QuerySet[LogEntry]) -> QuerySet[LogEntry]:
        return queryset.filter(content_type=self.value()) if (self.value() or "").isdigit() else queryset


@admin.register(LogEntry)
class ChangeAdmin(ModelAdmin):
    list_display = ["at", "action_shown", "kind", "object_shown", "author", "summary"]
    list_display_links = ["at"]
    list_filter = [ActionFilter, TypeFilter]
    list_filter_sheet = False
    list_per_page = 50
    list_select_related = ["content_type"]
    search_fields = ["object_repr", "changes", "additional_data"]
    search_help_text = "Object, author, field or value"
    ordering = ["-timestamp", "-pk"]
    sortable_by: list[str] = []
    actions = None
    fieldsets = [
        ("Change", {"fields": [("at", "action_shown"), ("kind", "object_shown"), ("author", "address")]}),
        ("Values", {"fields": ["values"]}),
    ]
    empty_title = "Nothing changed yet"
    empty_text = (
        "Whatever is changed of keys, teams, rules, upstreams and settings is kept here, with what it was before."
    )

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        return lookup == "object_pk" or bool(super().lookup_allowed(lookup, value, request))

    @admin.display(description="When", ordering="timestamp")
    def at(self, entry: LogEntry) -> str:
        return date_format(timezone.localtime(entry.timestamp), "j M Y H:i:s").replace(" ", "\N{NO-BREAK SPACE}")

    @admin.display(description="Action")
    def action_shown(self, entry: LogEntry) -> str:
        word, _ = _ACTIONS[entry.action]
        return str(display_for_label((word, word.capitalize()), "-", _COLOURS))

    @admin.display(description="Kind")
    def kind(self, entry: LogEntry) -> str:
        return str(entry.content_type.name)

    @admin.display(description="Object")
    def object_shown(self, entry: LogEntry) -> str | SafeString:
        """A link where there is a page of it and it still exists."""
        kind = entry.content_type
        try:
            url = reverse(f"admin:{kind.app_label}_{kind.model}_change", args=[entry.object_pk])
        except NoReverseMatch:
            return str(entry.object_repr)
        if entry.action == LogEntry.Action.DELETE:
            return str(entry.object_repr)
        return format_html('<a href="{}">{}</a>', url, entry.object_repr)

    @admin.display(description="By")
    def author(self, entry: LogEntry) -> str:
        signature = entry.additional_data or {}
        return f"key {signature['author']}" if "key_id" in signature else str(signature.get("author", "-"))

    @admin.display(description="From address")
    def address(self, entry: LogEntry) -> str:
        return str((entry.additional_data or {}).get("address", "-"))

    @admin.display(description="Fields")
    def summary(self, entry: LogEntry) -> str:
        """Of what is new or gone that is all of them, which its page has."""
        found = changes(entry)
        if entry.action != LogEntry.Action.UPDATE:
            return f"{len(found)} field{'' if len(found) == 1 else 's'}"
        return ", ".join(_name(entry, one.field) for one in found)

    @admin.display(description="Before and after")
    def values(self, entry: LogEntry) -> SafeString:
        rows = ((_name(entry, one.field), _shown(one.old), _shown(one.new)) for one in changes(entry))
        return format_html_join(mark_safe("<br>"), "<b>{}</b>: {} → {}", rows)

    def has_add_permission(self, _request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, _request: HttpRequest, _obj: LogEntry | None = None) -> bool:
        return False

    def has_delete_permission(self, _request: HttpRequest, _obj: LogEntry | None = None) -> bool:
        return False


def _name(entry: LogEntry, field: str) -> str:
    """As forms call it, where there still is such a field."""
    model = entry.content_type.model_class()
    fields = {one.name: one for one in model._meta.fields} if model else {}  # noqa: SLF001  # Django documents it
    return str(fields[field].verbose_name) if field in fields else field


def _shown(value: Any) -> str:
    return value or "-" if isinstance(value, str | None) else json.dumps(value, ensure_ascii=False)
