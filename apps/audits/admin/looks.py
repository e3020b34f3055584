"""Colours, words and refusals that the pages of audits share."""

# mypy: disable-error-code="misc"
# django-unfold ships no types: its classes are Any to mypy.

from datetime import datetime
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin
from unfold.utils import display_for_label

from apps.audits.models import AuditRun, RuleResult
from apps.core.ages import age

SEVERITY_COLOURS = {"high": "danger", "medium": "warning", "low": "info"}
AUDIT_COLOURS = {
    AuditRun.Outcome.RUNNING: "info",
    AuditRun.Outcome.COMPLETED: "success",
    AuditRun.Outcome.FAILED: "danger",
}
RESULT_COLOURS = {
    RuleResult.Outcome.CHECKED: "success",
    RuleResult.Outcome.NOT_CHECKED: "warning",
    RuleResult.Outcome.FAILED: "danger",
}


class HistoryAdmin(ModelAdmin):
    """Rows that only processes write."""

    actions: list[str] | None = None
    list_filter_sheet = False
    list_per_page = 50

    def has_add_permission(self, _request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, _request: HttpRequest, _obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, _request: HttpRequest, _obj: Any = None) -> bool:
        return False


def severity_label(severity: str) -> str:
    return str(display_for_label((severity, severity.capitalize()), "-", SEVERITY_COLOURS))


def label(words: str, colour: str | None) -> str:
    return str(display_for_label((words, words), "-", {words: colour}))


def ago(at: datetime | None) -> SafeString | str:
    """With the exact time under the pointer."""
    if at is None:
        return "-"
    return format_html('<span title="{}">{} ago</span>', f"{at:%Y-%m-%d %H:%M:%S} UTC", age(at))


def back_to(model: str, object_id: object) -> HttpResponse:
    """A dialog's answer: the browser loads the page anew, with the messages on it."""
    return HttpResponse(headers={"HX-Redirect": reverse(f"admin:{model}_change", args=[object_id])})
