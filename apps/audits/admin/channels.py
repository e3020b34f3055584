"""Alert channels in the console: where alerts go, with a button that sends one."""

# mypy: disable-error-code="misc, untyped-decorator, type-arg"
# django-unfold ships no types: its classes and decorators are Any to mypy. ModelForm takes no argument at run time.

import re
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.db.models import OuterRef, QuerySet, Subquery
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from unfold.admin import ModelAdmin
from unfold.decorators import action
from unfold.widgets import UnfoldAdminPasswordToggleWidget, UnfoldAdminURLInputWidget

from apps.audits.admin.looks import back_to, label, severity_label
from apps.audits.alerts import webhook
from apps.audits.alerts.deliver import deliver
from apps.audits.alerts.outbox import test_alert
from apps.audits.models import AlertChannel, AlertDelivery
from apps.core.forms import LinesField
from apps.upstreams.asking import shown_url

Kind = AlertChannel.Kind
_ADDRESS = re.compile(r"[^@\s,;<>]+@[^@\s,;<>]+")


class ChannelForm(forms.ModelForm):
    new_secret = forms.CharField(
        label="Signing secret",
        required=False,
        widget=UnfoldAdminPasswordToggleWidget(attrs={"autocomplete": "new-password"}),
        help_text="whsec_ and base64. Empty: one is made, and shown once. Stored encrypted.",
    )
    url = forms.URLField(label="URL", required=False, assume_scheme="https", widget=UnfoldAdminURLInputWidget())
    recipients = LinesField(
        pattern=_ADDRESS, wrong="is no e-mail address.", required=False, help_text="Addresses, one a line."
    )

    class Meta:
        model = AlertChannel
        exclude = ["encrypted_secret"]  # noqa: DJ006  # behind `new_secret`

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "new_secret" in self.fields and self.instance.encrypted_secret:
            self.fields["new_secret"].help_text = "One is stored, encrypted. Leave this empty to keep it."

    def clean_new_secret(self) -> str:
        secret: str = self.cleaned_data["new_secret"].strip()
        if secret and not webhook.is_secret(secret):
            raise forms.ValidationError(
                "A secret is whsec_ and at least 16 bytes in base64. Leave it empty for a new one."
            )
        return secret

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        kind, url = cleaned.get("kind"), cleaned.get("url") or ""
        if kind == Kind.WEBHOOK and "url" not in self.errors and not url.startswith(("http://", "https://")):
            self.add_error("url", "A webhook needs the address that it is sent to: https://…")
        if kind == Kind.EMAIL and "recipients" not in self.errors and not cleaned.get("recipients"):
            self.add_error("recipients", "Say who gets the mail.")
        return cleaned


@admin.register(AlertChannel)
class AlertChannelAdmin(ModelAdmin):
    form = ChannelForm
    list_display = ["name", "kind_shown", "where", "from_shown", "last_shown"]
    list_filter = ["kind", "enabled"]
    list_filter_sheet = False
    search_fields = ["name", "url"]
    actions_detail = ["send_test"]
    fieldsets = [
        ("Channel", {"fields": [("name", "kind"), ("min_severity", "enabled")]}),
        (
            "Webhook",
            {
                "fields": ["url", "new_secret", "allow_private_hosts"],
                "description": "A signed POST, tried again for three days until it is answered with 2xx.",
            },
        ),
        ("E-mail", {"fields": ["recipients"], "description": "Through the mail server that EMAIL_URL names."}),
    ]
    empty_title = "Nobody is told"
    empty_text = (
        "New findings of the audit, failed audits and agents that break are shown on the dashboard. A channel tells of "
        "them elsewhere too: in the log, to a webhook, by e-mail."
    )

    class Media:
        js = ["console/alert_channel.js"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[AlertChannel]:
        latest = AlertDelivery.objects.filter(channel=OuterRef("pk")).order_by("-created_at", "-pk")
        rows: QuerySet[AlertChannel] = super().get_queryset(request)
        return rows.annotate(last_state=Subquery(latest.values("state")[:1]))

    def get_fieldsets(self, request: HttpRequest, obj: AlertChannel | None = None) -> Any:
        shown = super().get_fieldsets(request, obj)
        if obj and not self.has_change_permission(request, obj):
            webhook_fields = {"fields": ["url", "allow_private_hosts"]}
            return [shown[0], ("Webhook", webhook_fields), shown[2]]
        return shown

    @admin.display(description="Kind", ordering="kind")
    def kind_shown(self, channel: AlertChannel) -> str:
        words = str(channel.get_kind_display())
        return label(words, "primary") if channel.enabled else label(f"{words}, disabled", None)

    @admin.display(description="Goes to")
    def where(self, channel: AlertChannel) -> str:
        if channel.kind == Kind.WEBHOOK:
            return shown_url(channel.url)
        return ", ".join(channel.recipients) if channel.kind == Kind.EMAIL else "the gateway's log"

    @admin.display(description="From severity", ordering="min_severity")
    def from_shown(self, channel: AlertChannel) -> str:
        return severity_label(channel.min_severity)

    @admin.display(description="Last alert")
    def last_shown(self, channel: Any) -> str:
        colours = {"delivered": "success", "waiting": "warning", "failed": "danger"}
        return label(channel.last_state.capitalize(), colours[channel.last_state]) if channel.last_state else "none yet"

    def save_model(self, request: HttpRequest, obj: AlertChannel, form: ChannelForm, change: bool) -> None:
        given = form.cleaned_data.get("new_secret")
        if given:
            obj.secret = given
        elif obj.kind == Kind.WEBHOOK and not obj.encrypted_secret:
            obj.secret = made = webhook.new_secret()
            messages.success(request, f"Its signing secret, shown this once: {made}")
        if obj.kind == Kind.EMAIL and not settings.EMAIL_URL:
            messages.warning(request, "No mail server is known yet: set EMAIL_URL and start the gateway anew.")
        super().save_model(request, obj, form, change)

    @action(
        description="Send a test",
        icon="send",
        permissions=["change"],
        dialog={
            "title": "Send a test alert?",
            "description": "Sent at once, and listed among the alerts.",
            "form_submit_text": "Send",
        },
    )
    def send_test(self, request: HttpRequest, _form: forms.Form, object_id: str) -> HttpResponse:
        channel = get_object_or_404(AlertChannel, pk=object_id)
        delivery = test_alert(channel)
        deliver([delivery])
        if delivery.state == AlertDelivery.State.DELIVERED:
            answered = f" It was answered with {delivery.status}." if delivery.status else ""
            messages.success(request, f"Sent.{answered}")
        else:
            messages.error(request, f"Not delivered: {delivery.error} It is tried again.")
        return back_to("audits_alertchannel", object_id)
