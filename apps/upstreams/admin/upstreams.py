"""LLM servers in the console: add one, see how it fares, test it, choose the default."""

# mypy: disable-error-code="misc, untyped-decorator"
# django-unfold ships no types: its classes and decorators are Any to mypy.

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import Count, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.text import Truncator
from django.views.decorators.http import require_GET
from unfold.admin import ModelAdmin, TabularInline
from unfold.decorators import action
from unfold.utils import display_for_label

from apps.core.ages import age
from apps.core.errors import UpstreamError
from apps.upstreams import probe
from apps.upstreams.admin.health_page import health_page, label
from apps.upstreams.admin.upstream_form import UpstreamForm
from apps.upstreams.asking import shown_url
from apps.upstreams.health_rows import observed_health
from apps.upstreams.models import Kind, Upstream, UpstreamModel
from apps.upstreams.refreshing import refresh

_SWITCHES = [
    ("takes_reasoning_effort", "takes_verbosity", "takes_strict"),
    ("takes_parallel_tool_calls", "takes_developer_role", "takes_several_system_messages"),
]


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
    list_display = ["slug", "state", "problem", "kind_shown", "address", "default_model", "models_listed"]
    list_filter = ["kind", "enabled"]
    list_filter_sheet = False
    search_fields = ["slug", "base_url", "default_model"]
    actions = ["read_chosen"]
    actions_detail = ["test", "read_models", "make_default"]
    inlines = [ModelsInline]
    readonly_fields = ["last_error", "models_shown"]
    change_form_outer_before_template = "admin/upstreams/upstream/page.html"
    empty_title = "No LLM server"
    empty_text = (
        "Agents have no model to think with. Add OpenAI, Ollama, LM Studio, vLLM or any OpenAI-compatible server."
    )
    _server = ("slug", "kind"), "base_url", "new_secret"
    _rest = (
        (
            "Clients",
            {
                "fields": ["exposes_models"],
                "description": "Agents use its models in any case. Switch this on to let clients ask for them by name.",
            },
        ),
        (
            "Capacity",
            {
                "fields": ["max_concurrency", ("queue_size", "queue_timeout")],
                "description": "In each worker. Calls beyond it wait for their turn, in the order of their coming.",
            },
        ),
        (
            "Failures",
            {
                "fields": [("retries", "cooldown")],
                "description": "Only until an answer has begun. A route then goes on to its next choice.",
            },
        ),
        ("Time-outs", {"fields": ["connect_timeout", ("first_event_timeout", "silence_timeout")]}),
        (
            "What the server takes",
            {"fields": _SWITCHES, "description": "Off: the gateway leaves it out, or says it in another way."},
        ),
        ("What the server has", {"fields": [("speaks_responses", "lists_models")]}),
    )
    add_fieldsets = [(None, {"fields": [*_server, "default_model", ("is_default", "enabled")]}), *_rest]
    fieldsets = [
        ("Its models", {"fields": [("models_shown", "last_error")]}),
        ("Server", {"fields": [*_server, "clear_secret", "default_model", ("is_default", "enabled")]}),
        *_rest,
    ]

    class Media:
        js = ["console/upstream.js"]

    def get_urls(self) -> list[Any]:
        return [
            path("<int:pk>/health/", require_GET(self.health_view), name="upstreams_upstream_health"),
            *super().get_urls(),
        ]

    def health_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """How it fares, by itself: the open page asks for it again and again.

        Whose session has ended is refused, not led to the login page: that would appear in the middle of the old one.
        """
        upstream = get_object_or_404(Upstream, pk=pk)
        if not (self.admin_site.has_permission(request) and self.has_view_permission(request, upstream)):
            raise PermissionDenied
        return TemplateResponse(request, "admin/upstreams/upstream/health.html", {"health": health_page(upstream)})

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        upstream = self.get_object(request, object_id)
        more = {"upstream": upstream, "health": health_page(upstream)} if upstream else {}
        shown: HttpResponse = super().change_view(request, object_id, form_url, more | (extra_context or {}))
        return shown

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """The rows know how they fare."""
        shown = super().get_changelist_instance(request)
        found = observed_health(list(shown.result_list))
        for upstream in shown.result_list:
            upstream.observed = found[upstream.pk]
        return shown

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).annotate(model_count=Count("models"))

    def get_fieldsets(self, request: HttpRequest, obj: Upstream | None = None) -> Any:
        fieldsets = super().get_fieldsets(request, obj)
        left_out: set[str] = set()
        if obj and not self.has_change_permission(request, obj):
            left_out = {"new_secret", "clear_secret"}
        elif obj and not obj.encrypted_secret:
            left_out = {"clear_secret"}
        return [
            (name, options | {"fields": [field for field in options["fields"] if field not in left_out]})
            for name, options in fieldsets
        ]

    def get_inlines(self, _request: HttpRequest, obj: Upstream | None) -> list[type[ModelsInline]]:
        return self.inlines if obj else []

    @admin.display(description="State")
    def state(self, upstream: Any) -> str:
        labels = [label(upstream, upstream.observed), *([("Default", "primary")] if upstream.is_default else [])]
        shown = ((display_for_label((words, words), "-", {words: colour}),) for words, colour in labels)
        return format_html('<div class="flex flex-wrap gap-1">{}</div>', format_html_join("", "{}", shown))

    @admin.display(description="Kind", ordering="kind")
    def kind_shown(self, upstream: Upstream) -> str:
        """In a word: the others are on the form."""
        return {Kind.OTHER: "Other", Kind.DEMO: "Demo"}.get(Kind(upstream.kind), upstream.get_kind_display())

    @admin.display(description="Problem", empty_value="-")
    def problem(self, upstream: Any) -> str | None:
        if not (upstream.enabled and upstream.observed.reason):
            return None
        since = f"For {age(upstream.observed.since)}: " if upstream.observed.since else ""
        return since + Truncator(upstream.observed.reason).chars(120)

    @admin.display(description="Base URL", ordering="base_url")
    def address(self, upstream: Upstream) -> str:
        return shown_url(upstream.base_url)

    @admin.display(description="Models", ordering="model_count")
    def models_shown(self, upstream: Upstream) -> str:
        if not upstream.models_read_at:
            return "not read yet"
        return f"{upstream.model_count}, read {age(upstream.models_read_at)} ago"  # type: ignore[attr-defined]

    @admin.display(description="Models", ordering="model_count")
    def models_listed(self, upstream: Upstream) -> str:
        if not upstream.models_read_at:
            return "not read yet"
        when = f"read {age(upstream.models_read_at)} ago"
        return format_html('<span title="{}">{}</span>', when, upstream.model_count)  # type: ignore[attr-defined]

    # --- saving ------------------------------------------------------------------------------------------------------

    def save_model(self, request: HttpRequest, obj: Upstream, form: UpstreamForm, change: bool) -> None:
        if form.cleaned_data["new_secret"] or form.cleaned_data.get("clear_secret"):
            obj.secret = form.cleaned_data["new_secret"]
        super().save_model(request, obj, form, change) if not obj.is_default else obj.make_default()
        if not change or {"base_url", "kind", "new_secret", "clear_secret"} & set(form.changed_data):
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

    @admin.action(description="Read their models", permissions=["change"])
    def read_chosen(self, request: HttpRequest, queryset: QuerySet[Upstream]) -> None:
        outcomes = refresh(list(queryset))
        for one in outcomes:
            if one.error:
                messages.warning(request, f"{one.upstream.slug}: {one.error.message}")
        answered = sum(1 for one in outcomes if not one.error)
        if answered:
            messages.success(request, f"The models of {answered} {'server' if answered == 1 else 'servers'} read.")

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


def _back_to(object_id: str) -> HttpResponse:
    """The dialog's answer: the browser loads the detail page anew, with the messages on it."""
    return HttpResponse(headers={"HX-Redirect": reverse("admin:upstreams_upstream_change", args=[object_id])})
