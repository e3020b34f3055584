"""Colours, words and refusals that the pages of audits share."""

# mypy: disable-error-code="misc"
# django-unfold ships no types: its classes are Any to mypy.

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from unfold.admin import ModelAdmin
from unfold.utils import display_for_label

from apps.audits.models import AuditRun, RuleResult

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


def back_to(model: str, object_id: object) -> HttpResponse:
    """A dialog's answer: the browser loads the page anew, with the messages on it."""
    return HttpResponse(headers={"HX-Redirect": reverse(f"admin:{model}_change", args=[object_id])})
