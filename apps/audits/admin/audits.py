"""Audits in the console: when the rules were checked, what became of each, and the button that checks them now."""

# mypy: disable-error-code="misc, untyped-decorator"
# django-unfold ships no types: its classes and decorators are Any to mypy.

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.views.decorators.http import require_GET
from unfold.decorators import action
from unfold.enums import ActionVariant

from apps.audits import claims
from apps.audits.admin.looks import AUDIT_COLOURS, RESULT_COLOURS, SEVERITY_COLOURS, HistoryAdmin, label
from apps.audits.auditing import CLAIM
from apps.audits.models import FALLING, AuditRun
from apps.audits.starting import start
from apps.core.ages import ago

Outcome = AuditRun.Outcome


@admin.register(AuditRun)
class AuditRunAdmin(HistoryAdmin):
    list_display = ["began", "outcome_shown", "found", "new", "gone", "checked_shown", "by", "took", "error_shown"]
    list_display_links = ["began"]
    list_filter = ["outcome"]
    sortable_by: list[str] = []
    actions_list = ["run_now"]
    change_form_outer_before_template = "admin/audits/auditrun/page.html"
    fieldsets: list[Any] = []
    empty_title = "No audit yet"
    empty_text = (
        "An audit checks every rule and records what it finds. A Celery worker makes one each night (make worker); the "
        "button above makes one now, and so does manage.py audit."
    )

    def get_fieldsets(self, _request: HttpRequest, _obj: AuditRun | None = None) -> Any:
        return []

    def get_urls(self) -> list[Any]:
        part = path("<int:pk>/progress/", require_GET(self.progress_view), name="audits_auditrun_progress")
        return [part, *super().get_urls()]

    def progress_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """The page's part that changes while the audit runs; refused to whose session has ended, as it would show the
        login page in the middle of the old one."""
        run = get_object_or_404(AuditRun, pk=pk)
        if not (self.admin_site.has_permission(request) and self.has_view_permission(request, run)):
            raise PermissionDenied
        return TemplateResponse(request, "admin/audits/auditrun/progress.html", _page(run))

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        run = self.get_object(request, object_id)
        more = _page(run) if run else {}
        shown: HttpResponse = super().change_view(request, object_id, form_url, more | (extra_context or {}))
        return shown

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """The rows know whether an audit is under way: asked once for all of them."""
        shown = super().get_changelist_instance(request)
        is_held = claims.is_held(CLAIM)
        for run in shown.result_list:
            run.is_held = is_held
        return shown

    @admin.display(description="Begun")
    def began(self, run: AuditRun) -> str:
        return ago(run.started_at)

    @admin.display(description="Outcome")
    def outcome_shown(self, run: AuditRun) -> str:
        return label(*outcome_label(run, is_held=getattr(run, "is_held", None)))

    @admin.display(description="Rules")
    def checked_shown(self, run: AuditRun) -> str:
        return f"{run.checked} of {run.rules}"

    @admin.display(description="Took")
    def took(self, run: AuditRun) -> str:
        return f"{(run.ended_at - run.started_at).total_seconds():.1f} s" if run.ended_at else "-"

    @admin.display(description="Problem")
    def error_shown(self, run: AuditRun) -> str:
        return run.error[:120] or "-"

    @action(
        description="Run now",
        icon="play_arrow",
        variant=ActionVariant.PRIMARY,
        permissions=["run_now"],
        dialog={
            "title": "Check all rules now?",
            "description": "Nothing is changed by it. New findings are told to the alert channels.",
            "form_submit_text": "Run the audit",
        },
    )
    def run_now(self, request: HttpRequest, _form: forms.Form) -> HttpResponse:
        messages.success(request, start(request.user.get_username()))
        return HttpResponse(headers={"HX-Redirect": reverse("admin:audits_auditrun_changelist")})

    def has_run_now_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("audits.add_auditrun"))


def outcome_label(run: AuditRun, *, is_held: bool | None = None) -> tuple[str, str | None]:
    """In words, with a colour. `is_held`: whether an audit is under way, where it is known already."""
    if run.outcome == Outcome.RUNNING and not (claims.is_held(CLAIM) if is_held is None else is_held):
        return "Cut off", "danger"
    if run.outcome == Outcome.COMPLETED and run.not_checked:
        return "Completed in part", "warning"
    return str(run.get_outcome_display()), AUDIT_COLOURS[Outcome(run.outcome)]


def _page(run: AuditRun) -> dict[str, Any]:
    results = list(run.results.all())
    words, colour = outcome_label(run)
    changed = sorted(run.events.select_related("finding"), key=lambda one: FALLING.index(one.finding.severity))
    return {
        "run": run,
        "run_label": (words, colour),
        "is_under_way": words == Outcome.RUNNING.label,
        "percent": round(100 * len(results) / run.rules) if run.rules else 0,
        "results": [(one, RESULT_COLOURS[type(one).Outcome(one.outcome)]) for one in results],
        "told": [
            (event.finding, event.get_what_display(), SEVERITY_COLOURS[event.finding.severity])
            for event in changed
            if event.what != "gone"
        ],
        "gone": [event.finding for event in changed if event.what == "gone"],
    }
