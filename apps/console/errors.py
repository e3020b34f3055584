"""The ring of failures: what went wrong lately, equal ones counted, each with its remedy. Read only."""

# mypy: disable-error-code="misc"
# django-unfold ships no types: its classes are Any to mypy.

from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from unfold.admin import ModelAdmin
from unfold.utils import display_for_label

from apps.catalog.models import DropIn
from apps.console.facts import facts_shown
from apps.core import clock
from apps.core.ages import ago
from apps.core.forms import link_to
from apps.observability.models import ErrorEvent
from apps.upstreams.models import Upstream

STAGES = ("authenticate", "resolve", "authorise", "execute", "stream", "record", "discover")
STAGE_COLOURS = {
    "authenticate": "warning",
    "resolve": "warning",
    "authorise": "warning",
    "execute": "danger",
    "stream": "danger",
    "record": "danger",
    "discover": "info",
}
_RECENT = {"hour": timedelta(hours=1), "day": timedelta(days=1), "week": timedelta(days=7)}


class StageFilter(admin.SimpleListFilter):
    title = "stage"
    parameter_name = "stage"

    def lookups(self, _request: HttpRequest, _model_admin: Any) -> list[tuple[str, str]]:
        return [(stage, stage.capitalize()) for stage in STAGES]

    def queryset(self, _request: HttpRequest, queryset: QuerySet[ErrorEvent]) -> QuerySet[ErrorEvent]:
        return queryset.filter(stage=self.value()) if self.value() else queryset


class CodeFilter(admin.SimpleListFilter):
    title = "code"
    parameter_name = "code"

    def lookups(self, _request: HttpRequest, _model_admin: Any) -> list[tuple[str, str]]:
        codes = ErrorEvent.objects.order_by("code").values_list("code", flat=True).distinct()
        return [(code, code.replace("_", " ").capitalize()) for code in codes if code]

    def queryset(self, _request: HttpRequest, queryset: QuerySet[ErrorEvent]) -> QuerySet[ErrorEvent]:
        return queryset.filter(code=self.value()) if self.value() else queryset


class RecentFilter(admin.SimpleListFilter):
    title = "last"
    parameter_name = "last"

    def lookups(self, _request: HttpRequest, _model_admin: Any) -> list[tuple[str, str]]:
        return [(name, f"Within the {name}") for name in _RECENT]

    def queryset(self, _request: HttpRequest, queryset: QuerySet[ErrorEvent]) -> QuerySet[ErrorEvent]:
        within = _RECENT.get(self.value() or "")
        return queryset.filter(last_at__gte=clock.now() - within) if within else queryset


@admin.register(ErrorEvent)
class ErrorEventAdmin(ModelAdmin):
    list_display = ["last_shown", "stage_shown", "subject_shown", "message_shown", "count", "code"]
    list_display_links = ["last_shown"]
    list_filter = [StageFilter, CodeFilter, RecentFilter]
    list_filter_sheet = False
    list_per_page = 50
    search_fields = ["subject", "message", "code", "=request_id", "facts"]
    search_help_text = "Agent, upstream, message, code or request id"
    ordering = ["-last_at"]
    sortable_by = ["count"]
    actions = None
    fieldsets = [
        ("What went wrong", {"fields": ["message", "remedy_shown", ("stage_shown", "code"), "subject_linked"]}),
        ("When", {"fields": ["count", ("first_at", "last_at"), "runs"]}),
        ("Details", {"fields": ["facts_shown", "traceback_shown"]}),
    ]
    readonly_fields = ["remedy_shown", "stage_shown", "subject_linked", "runs", "facts_shown", "traceback_shown"]
    empty_title = "Nothing went wrong"
    empty_text = (
        "Failures of agents, upstreams, discovery and the gateway itself are listed here a second after they happened, "
        "equal ones counted, with what to do. The latest 2,000 kinds are kept."
    )

    @admin.display(description="Last", ordering="last_at")
    def last_shown(self, row: ErrorEvent) -> str:
        return ago(row.last_at)

    @admin.display(description="Stage", ordering="stage")
    def stage_shown(self, row: ErrorEvent) -> str:
        return str(display_for_label((row.stage, row.stage.capitalize()), "-", STAGE_COLOURS))

    @admin.display(description="Concerns", empty_value="-")
    def subject_shown(self, row: ErrorEvent) -> str | None:
        return format_html('<span class="break-all">{}</span>', row.subject) if row.subject else None

    @admin.display(description="What went wrong")
    def message_shown(self, row: ErrorEvent) -> str:
        message = row.message if len(row.message) <= 160 else f"{row.message[:160]}…"
        remedy = (
            format_html('<span class="block text-font-subtle-light dark:text-font-subtle-dark">{}</span>', row.remedy)
            if row.remedy
            else ""
        )
        return format_html('<div class="whitespace-normal min-w-64">{}{}</div>', message, remedy)

    @admin.display(description="What to do", empty_value="-")
    def remedy_shown(self, row: ErrorEvent) -> str | None:
        return row.remedy or None

    @admin.display(description="Concerns", empty_value="-")
    def subject_linked(self, row: ErrorEvent) -> str | None:
        """Where its page can be found."""
        if url := _page_of(row):
            return link_to(url, row.subject)
        return row.subject or None

    @admin.display(description="Runs of the last request")
    def runs(self, row: ErrorEvent) -> str:
        if not row.request_id:
            return "It happened outside any request."
        query = urlencode({"q": row.request_id})
        link = link_to(f"{reverse('admin:execution_run_changelist')}?{query}", row.request_id)
        return format_html('<span class="break-all">{}</span>', link)

    @admin.display(description="Facts", empty_value="none")
    def facts_shown(self, row: ErrorEvent) -> str | None:
        return facts_shown(row.facts)

    @admin.display(description="Traceback of the first time", empty_value="none")
    def traceback_shown(self, row: ErrorEvent) -> str | None:
        if not row.traceback:
            return None
        last = row.traceback.strip().rpartition("\n")[2][:200]
        return format_html(
            '<details class="error-traceback"><summary class="cursor-pointer break-all">{}</summary>'
            '<pre class="overflow-auto text-xs mt-2" tabindex="0">{}</pre></details>',
            last,
            row.traceback,
        )

    def has_add_permission(self, _request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, _request: HttpRequest, _obj: ErrorEvent | None = None) -> bool:
        return False

    def has_delete_permission(self, _request: HttpRequest, _obj: ErrorEvent | None = None) -> bool:
        return False


def _page_of(row: ErrorEvent) -> str:
    agent, upstream = row.facts.get("agent"), row.facts.get("upstream")
    if agent and row.subject == agent and (pk := DropIn.objects.filter(agent_id=agent).values_list("pk").first()):
        return reverse("admin:catalog_dropin_change", args=pk)
    if (
        upstream
        and row.subject == upstream
        and (pk := Upstream.objects.filter(slug=upstream).values_list("pk").first())
    ):
        return reverse("admin:upstreams_upstream_change", args=pk)
    return ""
