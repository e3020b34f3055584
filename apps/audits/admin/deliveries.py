"""The alerts that were given, and how far their delivery is."""

# mypy: disable-error-code="misc, untyped-decorator"
# django-unfold ships no types: its classes and decorators are Any to mypy.

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils.html import format_html
from unfold.decorators import action

from apps.audits.admin.looks import HistoryAdmin, back_to, label, severity_label
from apps.audits.alerts.deliver import redeliver
from apps.audits.models import AlertDelivery
from apps.core.ages import ago
from apps.core.forms import link_to

_COLOURS = {"waiting": "warning", "delivered": "success", "failed": "danger"}


@admin.register(AlertDelivery)
class AlertDeliveryAdmin(HistoryAdmin):
    list_display = ["made", "state_shown", "channel", "severity_shown", "title", "attempts", "error_shown"]
    list_display_links = ["made"]
    list_select_related = ["channel"]
    list_filter = ["state", "channel", "event"]
    search_fields = ["title", "text"]
    sortable_by: list[str] = []
    actions: list[str] | None = ["redeliver_chosen"]
    actions_detail = ["redeliver_this"]
    fieldsets = [
        ("Alert", {"fields": [("severity_shown", "event"), "title", "text_shown"]}),
        (
            "Delivery",
            {
                "fields": [
                    ("state_shown", "channel"), ("attempts", "status"), "error",
                    ("created_at", "delivered_at"), "next_shown",
                ]
            },
        ),
    ]  # fmt: skip
    readonly_fields = ["severity_shown", "state_shown", "text_shown", "next_shown"]
    empty_title = "No alerts yet"

    @property
    def empty_text(self) -> str:
        channels = link_to(reverse("admin:audits_alertchannel_changelist"), "alert channels")
        audits = link_to(reverse("admin:audits_auditrun_changelist"), "audits")
        words = (
            "The {} are told of new findings of the {}, of failed ones, and of agents that break. What they were told, "
            "and whether it arrived, is listed here for 90 days."
        )
        return format_html(words, channels, audits)

    @admin.display(description="When")
    def made(self, delivery: AlertDelivery) -> str:
        return ago(delivery.created_at)

    @admin.display(description="State")
    def state_shown(self, delivery: AlertDelivery) -> str:
        return label(str(delivery.get_state_display()), _COLOURS[delivery.state])

    @admin.display(description="Severity")
    def severity_shown(self, delivery: AlertDelivery) -> str:
        return severity_label(delivery.severity)

    @admin.display(description="Problem")
    def error_shown(self, delivery: AlertDelivery) -> str:
        return delivery.error[:120] or "-"

    @admin.display(description="Text")
    def text_shown(self, delivery: AlertDelivery) -> str:
        return format_html('<pre style="white-space: pre-wrap; overflow-wrap: anywhere">{}</pre>', delivery.text)

    @admin.display(description="Next attempt")
    def next_shown(self, delivery: AlertDelivery) -> str:
        is_waiting = delivery.state == AlertDelivery.State.WAITING
        return f"{delivery.next_attempt_at:%Y-%m-%d %H:%M:%S} UTC" if is_waiting else "-"

    def has_redeliver_permission(self, request: HttpRequest, _object_id: str | None = None) -> bool:
        return bool(request.user.has_perm("audits.change_alertdelivery"))

    @admin.action(description="Deliver again", permissions=["redeliver"])
    def redeliver_chosen(self, request: HttpRequest, queryset: QuerySet[AlertDelivery]) -> None:
        self._redeliver(request, queryset.select_related("channel"))

    @action(
        description="Deliver again",
        icon="send",
        permissions=["redeliver"],
        dialog={
            "title": "Deliver this alert again?",
            "description": "Sent at once, under the same id as before: receivers know it by that.",
            "form_submit_text": "Deliver",
        },
    )
    def redeliver_this(self, request: HttpRequest, _form: forms.Form, object_id: str) -> HttpResponse:
        self._redeliver(request, [get_object_or_404(AlertDelivery.objects.select_related("channel"), pk=object_id)])
        return back_to("audits_alertdelivery", object_id)

    def _redeliver(self, request: HttpRequest, rows: "QuerySet[AlertDelivery] | list[AlertDelivery]") -> None:
        tried = redeliver(rows)
        failed = [row for row in tried if row.state != AlertDelivery.State.DELIVERED]
        if failed:
            messages.error(
                request, f"{len(failed)} of {len(tried)} not delivered: {failed[0].error} Tried again later."
            )
        if len(failed) < len(tried):
            messages.success(request, f"{len(tried) - len(failed)} delivered.")
