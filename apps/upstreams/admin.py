"""LLM servers in the console: add one, test it, choose the default."""

# mypy: disable-error-code="misc, untyped-decorator, type-arg"
# django-unfold ships no types: its classes and decorators are Any to mypy. ModelForm takes no argument at run time.

import json
import re
from typing import Any
from urllib.parse import urlsplit

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Count
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils.timesince import timesince
from unfold.admin import ModelAdmin, TabularInline
from unfold.decorators import action
from unfold.utils import display_for_label
from unfold.widgets import (
    UnfoldAdminPasswordToggleWidget,
    UnfoldAdminSelectWidget,
    UnfoldBooleanSwitchWidget,
)

from apps.core.errors import UpstreamError
from apps.core.forms import SuggestingInput
from apps.upstreams import price_admin, probe  # noqa: F401  # price_admin registers its page
from apps.upstreams.detect import PRESETS
from apps.upstreams.models import Kind, Upstream, UpstreamModel

USUAL_URLS = {
    Kind.OPENAI: "https://api.openai.com/v1",
    Kind.OLLAMA: "http://127.0.0.1:11434/v1",
    Kind.LM_STUDIO: "http://127.0.0.1:1234/v1",
    Kind.VLLM: "http://127.0.0.1:8000/v1",
}
_SWITCHES = [
    ("takes_reasoning_effort", "takes_verbosity", "takes_strict"),
    ("takes_parallel_tool_calls", "takes_developer_role", "takes_several_system_messages"),
]
_STATE_COLOURS = {"ok": "success", "demo": "info", "unread": "warning", "error": "danger", "disabled": None}
_SECRET = re.compile(r"[\x21-\x7e]*")  # what an HTTP header carries


class UpstreamForm(forms.ModelForm):
    secret = forms.CharField(
        label="API key of the server",
        required=False,
        widget=UnfoldAdminPasswordToggleWidget(attrs={"autocomplete": "new-password"}),
        help_text="Stored encrypted. Local servers want none.",
    )
    clear_secret = forms.BooleanField(
        label="Remove the stored API key", required=False, widget=UnfoldBooleanSwitchWidget()
    )

    class Meta:
        model = Upstream
        exclude = ["encrypted_secret"]  # noqa: DJ006  # fieldsets choose; this one is behind `secret`
        widgets = {
            "default_model": SuggestingInput(),
            "kind": UnfoldAdminSelectWidget(
                attrs={"data-presets": json.dumps(PRESETS, default=dict), "data-usual-urls": json.dumps(USUAL_URLS)}
            ),
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        upstream: Upstream = self.instance
        if upstream._state.adding:  # noqa: SLF001  # how Django names it
            for switch, value in PRESETS[Kind.OTHER].items():
                self.initial.setdefault(switch, value)
            return
        self.fields["default_model"].widget.suggestions = tuple(upstream.models.values_list("name", flat=True))
        if upstream.encrypted_secret:
            self.fields["secret"].help_text = "One is stored, encrypted. Leave this empty to keep it."
        if upstream.is_default:
            self.fields["is_default"].disabled = True
            self.fields["is_default"].help_text = "To change it, make another upstream the default."

    def clean_secret(self) -> str:
        secret: str = self.cleaned_data["secret"].strip()
        if not _SECRET.fullmatch(secret):
            raise ValidationError("An API key has no spaces, line breaks or accents in it. Copy it again.")
        return secret

    def clean_base_url(self) -> str:
        base_url: str = self.cleaned_data["base_url"].strip().rstrip("/")
        if base_url and not _is_http_url(base_url):
            raise ValidationError("This is no address of a web server; it looks like http://127.0.0.1:11434/v1.")
        # The commonest slip: the address of one call instead of the address that all calls begin with.
        return base_url.removesuffix("/chat/completions").removesuffix("/responses").removesuffix("/models")

    def _get_validation_exclusions(self) -> set[str]:
        # Saving as the default takes it from the one that was, so that there is no second one to refuse.
        exclusions: set[str] = super()._get_validation_exclusions()
        return exclusions | {"is_default"}


class ModelsInline(TabularInline):
    model = UpstreamModel
    verbose_name_plural = "models that the server lists"
    fields = readonly_fields = ["name"]
    extra = 0
    per_page = 25
    hide_title = True
    can_delete = False

    def has_add_permission(self, _request: HttpRequest, _obj: Upstream | None = None) -> bool:
        return False

    def has_change_permission(self, _request: HttpRequest, _obj: Upstream | None = None) -> bool:
        return False


@admin.register(Upstream)
class UpstreamAdmin(ModelAdmin):
    form = UpstreamForm
    list_display = ["slug", "state", "kind", "base_url", "default_model", "models_shown", "default_shown"]
    list_filter = ["kind", "enabled"]
    list_filter_sheet = False
    search_fields = ["slug", "base_url", "default_model"]
    actions_detail = ["test", "read_models", "make_default"]
    inlines = [ModelsInline]
    readonly_fields = ["state", "last_error", "models_shown"]
    empty_title = "No LLM server"
    empty_text = (
        "Agents have no model to think with. Add OpenAI, Ollama, LM Studio, vLLM or any OpenAI-compatible server."
    )
    _server = ("slug", "kind"), "base_url", "secret"
    _rest = (
        ("Time-outs", {"fields": [("connect_timeout", "first_event_timeout", "silence_timeout")]}),
        (
            "What the server takes",
            {"fields": _SWITCHES, "description": "Off: the gateway leaves it out, or says it in another way."},
        ),
        ("What the server has", {"fields": ["speaks_responses"]}),
    )
    add_fieldsets = [(None, {"fields": [*_server, "default_model", ("is_default", "enabled")]}), *_rest]
    fieldsets = [
        ("State", {"fields": [("state", "models_shown"), "last_error"]}),
        ("Server", {"fields": [*_server, "clear_secret", "default_model", ("is_default", "enabled")]}),
        *_rest,
    ]

    class Media:
        js = ["console/upstream.js"]

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).annotate(model_count=Count("models"))

    def get_fieldsets(self, request: HttpRequest, obj: Upstream | None = None) -> Any:
        fieldsets = super().get_fieldsets(request, obj)
        if obj is None or obj.encrypted_secret:
            return fieldsets
        return [
            (name, options | {"fields": [field for field in options["fields"] if field != "clear_secret"]})
            for name, options in fieldsets
        ]

    def get_inlines(self, _request: HttpRequest, obj: Upstream | None) -> list[type[ModelsInline]]:
        return self.inlines if obj else []

    @admin.display(description="State")
    def state(self, upstream: Upstream) -> str:
        return str(display_for_label(_state(upstream), "-", _STATE_COLOURS))

    @admin.display(description="Models", ordering="model_count")
    def models_shown(self, upstream: Upstream) -> str:
        if not upstream.models_read_at:
            return "not read yet"
        return f"{upstream.model_count}, read {timesince(upstream.models_read_at, depth=1)} ago"  # type: ignore[attr-defined]

    @admin.display(description="Default", ordering="is_default")
    def default_shown(self, upstream: Upstream) -> str:
        return str(display_for_label("Default", "", {"Default": "primary"})) if upstream.is_default else ""

    # --- saving ------------------------------------------------------------------------------------------------------

    def save_model(self, request: HttpRequest, obj: Upstream, form: UpstreamForm, change: bool) -> None:
        if form.cleaned_data["secret"] or form.cleaned_data.get("clear_secret"):
            obj.secret = form.cleaned_data["secret"]
        super().save_model(request, obj, form, change) if not obj.is_default else obj.make_default()
        if not change or {"base_url", "kind", "secret", "clear_secret"} & set(form.changed_data):
            # After the transaction: nothing may hold the database's write lock while a server is asked.
            transaction.on_commit(lambda: self._read(request, obj))

    def _read(self, request: HttpRequest, upstream: Upstream) -> None:
        try:
            names = probe.refresh_models(upstream)
        except UpstreamError as error:
            messages.warning(request, f"Its models could not be read: {error.message}")
            return
        chosen = f" Agents use {upstream.default_model} by default." if upstream.default_model else ""
        messages.success(request, f"{len(names)} {'model' if len(names) == 1 else 'models'} read.{chosen}")

    # --- buttons of the detail page ----------------------------------------------------------------------------------

    @action(
        description="Test",
        icon="network_check",
        permissions=["change"],
        dialog={
            "title": "Test this server?",
            "description": "Reads its models and asks the default model for one word. A local server may need to load "
            "the model first: up to 45 seconds.",
            "form_submit_text": "Test",
        },
    )
    def test(self, request: HttpRequest, _form: forms.Form, object_id: str) -> HttpResponse:
        report = probe.test_upstream(get_object_or_404(Upstream, pk=object_id))
        for step in report.steps:
            messages.add_message(request, messages.SUCCESS if step.passed else messages.ERROR, step.text)
        return _back_to(object_id)

    @action(
        description="Read models",
        icon="refresh",
        permissions=["change"],
        dialog={
            "title": "Read the models of this server?",
            "description": "Asks the server for its list and stores it here.",
            "form_submit_text": "Read",
        },
    )
    def read_models(self, request: HttpRequest, _form: forms.Form, object_id: str) -> HttpResponse:
        self._read(request, get_object_or_404(Upstream, pk=object_id))
        return _back_to(object_id)

    @action(
        description="Make default",
        icon="star",
        permissions=["make_default"],
        dialog={
            "title": "Make this the default upstream?",
            "description": "Agents whose model no upstream is known to have run here, from within a second on.",
            "form_submit_text": "Make default",
        },
    )
    def make_default(self, request: HttpRequest, _form: forms.Form, object_id: str) -> HttpResponse:
        upstream = get_object_or_404(Upstream, pk=object_id)
        upstream.make_default()
        self.log_change(request, upstream, "Made the default.")
        messages.success(request, f"{upstream} is the default upstream now.")
        return _back_to(object_id)

    def has_make_default_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        is_candidate = Upstream.objects.filter(pk=object_id, is_default=False, enabled=True).exists()
        return is_candidate and bool(self.has_change_permission(request))


def _is_http_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0 and " " not in text
    except ValueError:
        return False


def _state(upstream: Upstream) -> tuple[str, str]:
    if not upstream.enabled:
        return "disabled", "Disabled"
    if upstream.last_error:
        return "error", "Error"
    if upstream.kind == Kind.DEMO:
        return "demo", "Demo, no LLM"
    return ("ok", "Answers") if upstream.models_read_at else ("unread", "Not tried yet")


def _back_to(object_id: str) -> HttpResponse:
    """The dialog's answer: the browser loads the detail page anew, with the messages on it."""
    return HttpResponse(headers={"HX-Redirect": reverse("admin:upstreams_upstream_change", args=[object_id])})
