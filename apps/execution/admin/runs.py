"""What was run, newest first. Read only: the rows are history."""

# mypy: disable-error-code="misc"
# django-unfold ships no types: its classes are Any to mypy.

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html_join
from django.utils.safestring import mark_safe
from unfold.admin import ModelAdmin
from unfold.paginator import InfinitePaginator
from unfold.utils import display_for_label

from apps.catalog.models import DropIn
from apps.execution.models import Approval, Outcome, Run

OUTCOME_COLOURS = {
    Outcome.COMPLETED: "success",
    Outcome.REFUSED: "warning",
    Outcome.FAILED: "danger",
    Outcome.CANCELLED: None,
    Outcome.WAITING: "info",
}
APPROVAL_COLOURS = {"open": "info", "approved": "success", "partly approved": "success", "rejected": "warning"}


class AgentFilter(admin.SimpleListFilter):
    """The agents that there are: asking the runs for theirs would read the whole table."""

    title = "agent"
    parameter_name = "agent"

    def lookups(self, _request: HttpRequest, _model_admin: Any) -> list[tuple[str, str]]:
        return [(agent_id, agent_id) for agent_id in DropIn.objects.values_list("agent_id", flat=True)[:200]]

    def queryset(self, _request: HttpRequest, queryset: QuerySet[Run]) -> QuerySet[Run]:
        return queryset.filter(agent_id=self.value()) if self.value() else queryset


@admin.register(Run)
class RunAdmin(ModelAdmin):
    list_display = [
        "started_at", "outcome_shown", "agent_id", "key_name", "served_by", "duration", "tokens", "cost", "mode",
    ]  # fmt: skip
    list_display_links = ["started_at"]
    list_filter = ["outcome", "streamed", AgentFilter]
    list_filter_sheet = False
    list_per_page = 50
    search_fields = ["=request_id", "=id", "agent_id", "key_name", "error_code", "error"]
    search_help_text = "Request id, agent, key or error"
    show_full_result_count = False
    paginator = InfinitePaginator  # counts nothing
    ordering = ["-started_at"]
    sortable_by: list[str] = []  # the index serves one order
    actions = None
    fieldsets = [
        ("Outcome", {"fields": [("outcome_shown", "finish_reason"), "error_code", "error"]}),
        (
            "Run",
            {
                "fields": [
                    ("agent_id", "version"), ("upstream", "model"), ("key_name", "mode"), ("request_id", "id"),
                ]
            },
        ),
        (
            "Time and tokens",
            {
                "fields": [
                    "started_at", ("first_event", "duration"),
                    ("prompt_tokens", "completion_tokens"), ("model_calls", "counted"), "cost",
                ]
            },
        ),
    ]  # fmt: skip
    readonly_fields = ["outcome_shown", "version", "first_event", "duration", "mode", "counted", "cost"]
    empty_title = "No runs yet"
    empty_text = "Each chat with an agent is listed here when it has ended."

    @admin.display(description="Outcome")
    def outcome_shown(self, run: Run) -> str:
        error = f": {run.error_code}" if run.error_code and run.outcome != Outcome.COMPLETED else ""
        return str(display_for_label((run.outcome, run.get_outcome_display() + error), "-", OUTCOME_COLOURS))

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
        return f"{'about ' if run.tokens_estimated else ''}{run.prompt_tokens} + {run.completion_tokens}"

    @admin.display(description="Cost")
    def cost(self, run: Run) -> str:
        return "-" if run.cost_usd is None else f"${run.cost_usd:.6f}".rstrip("0").rstrip(".")

    def has_add_permission(self, _request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, _request: HttpRequest, _obj: Run | None = None) -> bool:
        return False

    def has_delete_permission(self, _request: HttpRequest, _obj: Run | None = None) -> bool:
        return False


@admin.register(Approval)
class ApprovalAdmin(ModelAdmin):
    """Who decides is the person in the chat; operators see what waits and what was said."""

    list_display = ["created_at", "state_shown", "agent_id", "wanted", "expires_at", "id"]
    list_display_links = ["created_at"]
    list_per_page = 50
    search_fields = ["=id", "agent_id"]
    search_help_text = "Reference or agent"
    actions = None
    fieldsets = [
        (None, {"fields": ["state_shown", ("agent_id", "version"), "key_id", "id"]}),
        ("Tool calls", {"fields": ["calls_shown"]}),
        ("Time", {"fields": [("created_at", "decided_at", "expires_at")]}),
    ]
    readonly_fields = ["state_shown", "version", "calls_shown"]
    empty_title = "Nothing has asked for an approval"
    empty_text = (
        "A tool with needs_approval=True ends its run with a question; the next message in that chat approves or "
        "rejects the call. What waits, and what was decided, is listed here until it expires."
    )

    @admin.display(description="State")
    def state_shown(self, approval: Approval) -> str:
        state = approval.state()
        return str(display_for_label((state, state.capitalize()), "-", APPROVAL_COLOURS))

    @admin.display(description="Tools")
    def wanted(self, approval: Approval) -> str:
        return ", ".join(call["name"] for call in approval.calls)

    @admin.display(description="Calls")
    def calls_shown(self, approval: Approval) -> str:
        verdicts = [
            "" if approval.approved is None else "approved" if number in approval.approved else "rejected"
            for number in range(1, len(approval.calls) + 1)
        ]
        rows = (
            (call["name"], call["arguments"], verdict) for call, verdict in zip(approval.calls, verdicts, strict=True)
        )
        return format_html_join(mark_safe("<br>"), "<b>{}</b> <code>{}</code> {}", rows)

    @admin.display(description="Version")
    def version(self, approval: Approval) -> str:
        return approval.agent_digest[:12] or "-"

    def has_add_permission(self, _request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, _request: HttpRequest, _obj: Approval | None = None) -> bool:
        return False

    def has_delete_permission(self, _request: HttpRequest, _obj: Approval | None = None) -> bool:
        return False


def time_shown(milliseconds: float | None) -> str:
    """Milliseconds for people."""
    if milliseconds is None:
        return "-"
    return f"{milliseconds:.0f} ms" if milliseconds < 1000 else f"{milliseconds / 1000:.1f} s"
