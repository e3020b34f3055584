"""What waits for a person's word, and what was said. Read only: who decides is the person in the chat."""

# mypy: disable-error-code="misc"
# django-unfold ships no types: its classes are Any to mypy.

from django.contrib import admin
from django.http import HttpRequest
from django.utils.html import format_html_join
from django.utils.safestring import mark_safe
from unfold.admin import ModelAdmin
from unfold.utils import display_for_label

from apps.execution.models import Approval

APPROVAL_COLOURS = {"open": "info", "approved": "success", "partly approved": "success", "rejected": "warning"}


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
