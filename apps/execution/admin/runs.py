"""What was run, newest first, and each run as a picture of its steps. Read only: the rows are history."""

# mypy: disable-error-code="misc"
# django-unfold ships no types: its classes are Any to mypy.

from collections.abc import Iterator
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.http import urlencode
from unfold.admin import ModelAdmin
from unfold.paginator import InfinitePaginator
from unfold.utils import display_for_label

from apps.execution.admin.run_filters import AgentFilter, KeyFilter, TimeFilter, quick_filters
from apps.execution.models import Outcome, Run
from apps.execution.pages import text_search
from apps.execution.pages.run_page import run_page
from apps.execution.pages.shown import OUTCOME_COLOURS, cost_shown, time_shown

NO_BREAK = "\N{NO-BREAK SPACE}"
_ELSEWHERE = (
    ("Errors", "observability.view_errorevent", "admin:observability_errorevent_changelist"),
    ("Denials", "access.view_denial", "admin:access_denial_changelist"),
)


@admin.register(Run)
class RunAdmin(ModelAdmin):
    list_display = [
        "began", "outcome_shown", "agent_id", "key_name", "user_name", "served_by", "duration", "tokens", "cost",
    ]  # fmt: skip
    list_display_links = ["began"]
    list_filter = [TimeFilter, "outcome", "streamed", AgentFilter, KeyFilter]
    list_filter_sheet = False
    list_per_page = 50
    search_fields = ["=id"]  # that there is a search; `text_search` says how
    search_help_text = "Request id, run id, agent, key, user, error"
    list_before_template = "admin/execution/run/quick.html"
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER  # each is a count over the whole table
    paginator = InfinitePaginator  # counts nothing
    ordering = ["-started_at"]
    sortable_by: list[str] = []  # the index serves one order
    actions = None
    change_form_outer_before_template = "admin/execution/run/page.html"
    fieldsets = [
        (
            "All values",
            {
                "classes": ["collapse"],  # the page above says most of it
                "fields": [
                    ("outcome_shown", "finish_reason"), "error_code", "error", ("agent_id", "version"),
                    ("upstream", "model"), ("key_name", "mode"), ("user_name", "user_id"), "request_id", "id",
                    "trace_id", "started_at", ("first_event", "duration"), ("prompt_tokens", "completion_tokens"),
                    ("model_calls", "counted"), "cost",
                ],
            },
        ),
    ]  # fmt: skip
    readonly_fields = ["outcome_shown", "version", "first_event", "duration", "mode", "counted", "cost"]
    empty_title = "No runs yet"
    empty_text = "Each chat with an agent is listed here when it has ended."
    search_covers = text_search.HELP
    not_here = (
        "A run is listed a second after it ended. A request that was refused before it reached an agent is no run. The "
        "log has it by its request id, as request_finished; if it was the last of its kind, it is also here:"
    )

    class Media:
        css = {"all": ["console/run.css"]}

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """The quick filters above the list lead to it as it is, but for what they choose."""
        shown = super().get_changelist_instance(request)
        shown.quick = list(quick_filters(shown))
        shown.elsewhere = list(_elsewhere(request, shown.query))
        return shown

    def get_search_results(
        self, _request: HttpRequest, queryset: QuerySet[Run], search_term: str
    ) -> tuple[QuerySet[Run], bool]:
        return text_search.search(queryset, search_term), False

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        run = self.get_object(request, object_id)
        may_view = run is not None and self.has_view_permission(request, run)
        more = {"page": run_page(run, request.user)} if may_view else {}
        shown: HttpResponse = super().change_view(request, object_id, form_url, more | (extra_context or {}))
        return shown

    @admin.display(description="Began", ordering="started_at")
    def began(self, run: Run) -> str:
        return date_format(timezone.localtime(run.started_at), "j M H:i:s").replace(" ", NO_BREAK)

    @admin.display(description="Outcome")
    def outcome_shown(self, run: Run) -> str:
        label = display_for_label((run.outcome, run.get_outcome_display()), "-", OUTCOME_COLOURS)
        error = run.error_code if run.outcome != Outcome.COMPLETED else ""
        return format_html('<div>{}<span class="block text-xs">{}</span></div>', label, error.replace("_", " "))

    @admin.display(description="Model", empty_value="-")
    def served_by(self, run: Run) -> str:
        return "/".join(part for part in (run.upstream, run.model) if part)

    @admin.display(description="Version")
    def version(self, run: Run) -> str:
        return run.agent_digest[:12] or "-"

    @admin.display(description="Answer")
    def mode(self, run: Run) -> str:
        return "streamed" if run.streamed else "whole"

    @admin.display(description="Tokens counted by")
    def counted(self, run: Run) -> str:
        return "estimate" if run.tokens_estimated else "the server"

    @admin.display(description="Duration")
    def duration(self, run: Run) -> str:
        return time_shown(run.duration_ms)

    @admin.display(description="First event after")
    def first_event(self, run: Run) -> str:
        return time_shown(run.first_event_ms)

    @admin.display(description="Tokens")
    def tokens(self, run: Run) -> str:
        about = "about " if run.tokens_estimated else ""
        return f"{about}{run.prompt_tokens} + {run.completion_tokens}".replace(" ", NO_BREAK)

    @admin.display(description="Cost")
    def cost(self, run: Run) -> str:
        return cost_shown(run.cost_usd)

    def has_add_permission(self, _request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, _request: HttpRequest, _obj: Run | None = None) -> bool:
        return False

    def has_delete_permission(self, _request: HttpRequest, _obj: Run | None = None) -> bool:
        return False


def _elsewhere(request: HttpRequest, text: str) -> Iterator[tuple[str, str]]:
    """Words and links: where the same text can be looked for when no run has it."""
    for words, permission, page in _ELSEWHERE:
        if text and request.user.has_perm(permission):
            yield words, f"{reverse(page)}?{urlencode({'q': text})}"
