"""Findings in the console: the worst first, each with the way to what it is about and to its remedy."""

# mypy: disable-error-code="misc, untyped-decorator, type-arg"
# django-unfold ships no types: its classes and decorators are Any to mypy.

from datetime import timedelta
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import Case, IntegerField, QuerySet, Value, When
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.utils.html import format_html
from unfold.decorators import action
from unfold.forms import BaseDialogForm
from unfold.utils import display_for_label
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from apps.audits import findings as verbs
from apps.audits.admin.looks import SEVERITY_COLOURS, HistoryAdmin, back_to, severity_label
from apps.audits.models import FALLING, Finding
from apps.core import clock
from apps.core.ages import ago
from apps.core.forms import link_to

_STATE_COLOURS = {"new": "danger", "still": "warning", "accepted": None, "gone": "success"}
_WORST_FIRST = Case(
    *(When(severity=one, then=Value(number)) for number, one in enumerate(FALLING)), output_field=IntegerField()
)


class AcceptForm(BaseDialogForm):
    reason = forms.CharField(
        label="Why",
        max_length=300,
        widget=UnfoldAdminTextInputWidget(),
        help_text="For whoever finds it accepted.",
    )
    days = forms.TypedChoiceField(
        label="For how long",
        coerce=int,
        choices=[(30, "30 days"), (7, "7 days"), (90, "90 days"), (365, "a year")],
        widget=UnfoldAdminSelectWidget(),
        help_text="Then it is open again, and told of, if it is still there.",
    )


class StateFilter(admin.SimpleListFilter):
    """What is open, unless something else is asked for."""

    title = "state"
    parameter_name = "state"

    def lookups(self, _request: HttpRequest, _model_admin: Any) -> list[tuple[str, str]]:
        return [("new", "New"), ("accepted", "Accepted"), ("gone", "Gone"), ("all", "All")]

    def choices(self, changelist: Any) -> Any:
        for number, choice in enumerate(super().choices(changelist)):
            yield {**choice, "display": "Open"} if number == 0 else choice

    def queryset(self, _request: HttpRequest, queryset: Any) -> Any:
        now = clock.now()
        match self.value():
            case "new":
                return queryset.open(now).filter(state=Finding.State.NEW)
            case "accepted":
                return queryset.accepted(now)
            case "gone":
                return queryset.filter(state=Finding.State.GONE)
            case "all":
                return queryset
            case _:
                return queryset.open(now)


@admin.register(Finding)
class FindingAdmin(HistoryAdmin):
    list_display = ["severity_shown", "subject_shown", "message_shown", "rule_shown", "state_shown", "since_shown"]
    list_display_links = ["severity_shown", "subject_shown"]
    list_filter = [StateFilter, "severity", "title"]
    search_fields = ["subject", "message", "rule"]
    search_help_text = "Subject, message or rule"
    sortable_by: list[str] = []
    actions_detail = ["accept", "take_back"]
    change_form_outer_before_template = "admin/audits/finding/page.html"
    fieldsets = [
        ("Finding", {"fields": [("rule_shown", "rule"), ("since_shown", "last_seen")]}),
        ("Accepted", {"fields": [("accepted_by", "accepted_until"), "accepted_reason"]}),
    ]
    readonly_fields = ["rule_shown", "since_shown"]
    empty_title = "No findings"
    empty_text = (
        "The audit looks every night for keys without expiry, rules that fit nothing, broken agents, weak settings and "
        "more. Run one now from the list of audits, or with manage.py audit."
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Finding]:
        rows: QuerySet[Finding] = super().get_queryset(request)
        return rows.order_by(_WORST_FIRST, "-since", "pk")

    def get_ordering(self, _request: HttpRequest) -> list[Any]:
        return [_WORST_FIRST, "-since", "pk"]

    def get_fieldsets(self, request: HttpRequest, obj: Finding | None = None) -> Any:
        shown = super().get_fieldsets(request, obj)
        return shown if obj and obj.is_accepted(clock.now()) else shown[:1]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        finding = self.get_object(request, object_id)
        more = {}
        if finding:
            state, words = state_of(finding)
            more = {
                "finding": finding,
                "labels": [
                    (finding.get_severity_display(), SEVERITY_COLOURS[finding.severity]),
                    (words, _STATE_COLOURS[state]),
                ],
                "events": list(finding.events.select_related("run")[:30]),
            }
        shown: HttpResponse = super().change_view(request, object_id, form_url, more | (extra_context or {}))
        return shown

    @admin.display(description="Severity")
    def severity_shown(self, finding: Finding) -> str:
        return severity_label(finding.severity)

    @admin.display(description="Subject")
    def subject_shown(self, finding: Finding) -> str:
        return finding.subject

    @admin.display(description="What to do")
    def message_shown(self, finding: Finding) -> str:
        where = link_to(finding.link, "Open") if finding.link else ""
        return format_html(
            '<span style="display: block; min-width: 14rem; white-space: normal">{} {} {}</span>',
            finding.message, finding.remedy, where,
        )  # fmt: skip

    @admin.display(description="Looked for")
    def rule_shown(self, finding: Finding) -> str:
        return finding.title

    @admin.display(description="State")
    def state_shown(self, finding: Finding) -> str:
        return str(display_for_label(state_of(finding), "-", _STATE_COLOURS))

    @admin.display(description="Since")
    def since_shown(self, finding: Finding) -> str:
        return ago(finding.since)

    # --- accepting ---------------------------------------------------------------------------------------------------

    @action(
        description="Accept",
        icon="check",
        permissions=["accept"],
        dialog={
            "title": "Accept this finding?",
            "description": "It counts for nothing and is told to nobody, for a while.",
            "form_class": AcceptForm,
            "form_submit_text": "Accept",
        },
    )
    def accept(self, request: HttpRequest, form: AcceptForm, object_id: str) -> HttpResponse:
        finding, now = get_object_or_404(Finding, pk=object_id), clock.now()
        until = now + timedelta(days=form.cleaned_data["days"])
        by = request.user.get_username()
        verbs.accept(finding, by=by, reason=form.cleaned_data["reason"], until=until, now=now)
        self.log_change(request, finding, f"Accepted until {until:%Y-%m-%d}.")
        messages.success(request, f"Accepted until {until:%Y-%m-%d}.")
        return back_to("audits_finding", object_id)

    def has_accept_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        is_open = Finding.objects.open(clock.now()).filter(pk=object_id).exists()
        return is_open and self._may_accept(request)

    @action(
        description="Take back",
        icon="undo",
        permissions=["take_back"],
        dialog={
            "title": "Take the acceptance back?",
            "description": "The finding is open again at once.",
            "form_submit_text": "Take back",
        },
    )
    def take_back(self, request: HttpRequest, _form: forms.Form, object_id: str) -> HttpResponse:
        finding = get_object_or_404(Finding, pk=object_id)
        verbs.take_back(finding, by=request.user.get_username(), now=clock.now())
        self.log_change(request, finding, "Took the acceptance back.")
        messages.success(request, "It is open again.")
        return back_to("audits_finding", object_id)

    def has_take_back_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        is_accepted = Finding.objects.accepted(clock.now()).filter(pk=object_id).exists()
        return is_accepted and self._may_accept(request)

    def _may_accept(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("audits.change_finding"))


def state_of(finding: Finding) -> tuple[str, str]:
    if finding.is_accepted(clock.now()):
        return "accepted", f"Accepted until {finding.accepted_until:%Y-%m-%d}"
    return finding.state, str(finding.get_state_display())
