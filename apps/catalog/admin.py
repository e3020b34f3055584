"""The agents of the discovery folders in the console: which serve, why one does not, and how to mend it."""

# mypy: disable-error-code="misc, untyped-decorator, type-arg"
# django-unfold ships no types: its classes and decorators are Any to mypy. ModelForm takes no argument at run time.

from pathlib import Path
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction
from django.db.models import Count, Exists, IntegerField, OuterRef, Q, QuerySet, Subquery, Value
from django.db.models.functions import Coalesce
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import path
from django.utils.html import format_html, format_html_join
from django.utils.text import Truncator
from django.views.decorators.http import require_GET, require_POST
from unfold.admin import ModelAdmin, StackedInline
from unfold.utils import display_for_label

from apps.catalog import (  # noqa: F401  # two of them register their pages
    approved_versions,
    declared_admin,
    modules_admin,
    namespace_admin,
    serving_workers,
    version_page,
    versions,
)
from apps.catalog.approved_versions import CannotReview
from apps.catalog.declared_checks import ALIAS, alias_mistakes, names_taken
from apps.catalog.declared_form import ParametersField, model_names
from apps.catalog.graph_picture import picture
from apps.catalog.model_parameters import mistakes
from apps.catalog.models import SHORT, AgentSettings, Diagnostic, DropIn, PinnedVersion, State
from apps.catalog.versions import CannotKeep, CannotPutBack
from apps.core import clock
from apps.core.forms import LinesField, SuggestingInput


class SettingsForm(forms.ModelForm):
    aliases = LinesField(
        required=False,
        pattern=ALIAS,
        wrong="is no model name: lower-case letters, digits, dots and dashes, with at most one slash.",
        help_text="Further model names that it answers to, one a line.",
    )
    parameters = ParametersField(
        help_text='Before the module\'s own, unless a request says otherwise: {"temperature": 0.2, "max_tokens": 800}. '
        'What only your server knows goes into extra_body: {"extra_body": {"top_k": 20}}.',
    )

    class Meta:
        model = AgentSettings
        fields = [
            "enabled", "listed", "aliases", "upstream", "model", "parameters", "max_turns", "run_timeout",
            "on_disconnect", "dry_run", "build_per_run", "own_client",
        ]  # fmt: skip
        widgets = {"model": SuggestingInput()}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "model" in self.fields:
            self.fields["model"].widget.suggestions = model_names()

    def clean_aliases(self) -> list[str]:
        aliases: list[str] = self.cleaned_data["aliases"]
        taken, own_id = names_taken(without=self.instance), self.instance.drop_in.agent_id
        if wrong := [sentence for _, sentence in alias_mistakes(aliases, own_id, taken)]:
            raise ValidationError(wrong)
        return aliases

    def clean_parameters(self) -> dict[str, Any]:
        parameters: dict[str, Any] = self.cleaned_data["parameters"]
        if wrong := mistakes(parameters):
            raise ValidationError(wrong)
        return parameters


class SettingsInline(StackedInline):
    model = AgentSettings
    form = SettingsForm
    fieldsets = [
        (None, {"fields": [("enabled", "listed"), "aliases"]}),
        (
            "Model",
            {
                "fields": [("upstream", "model"), "parameters"],
                "description": "Instead of what the module names. Both empty: as the module says. A module's own model "
                "object is kept.",
            },
        ),
        ("Runs", {"fields": [("max_turns", "run_timeout"), "on_disconnect"]}),
        ("Loading", {"fields": ["dry_run", "build_per_run", "own_client"]}),
    ]
    can_delete = False
    extra = 1
    max_num = 1


class EnabledFilter(admin.SimpleListFilter):
    title = "enabled"
    parameter_name = "enabled"

    def lookups(self, _request: HttpRequest, _model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", "Enabled"), ("no", "Disabled")]

    def queryset(self, _request: HttpRequest, queryset: QuerySet[DropIn]) -> QuerySet[DropIn]:
        disabled = {"settings__enabled": False}
        match self.value():
            case "yes":
                return queryset.exclude(**disabled)
            case "no":
                return queryset.filter(**disabled)
            case _:
                return queryset


@admin.register(DropIn)
class DropInAdmin(ModelAdmin):
    list_display = ["agent_id", "state_shown", "name", "export", "model", "tool_count", "problem"]
    list_filter = ["state", EnabledFilter]
    list_filter_sheet = False
    search_fields = ["agent_id", "name", "description"]
    actions = ["enable", "disable"]
    inlines = [SettingsInline]
    change_form_outer_before_template = "admin/catalog/dropin/page.html"
    fieldsets = [
        (
            "Agent",
            {
                "fields": [
                    ("agent_id", "name"), "description", "folder", ("export", "model"),
                    ("tools_shown", "handoffs_shown"),
                ]
            },
        ),
    ]  # fmt: skip
    readonly_fields = [
        "agent_id", "name", "description", "folder", "export", "model", "tools_shown", "handoffs_shown",
    ]  # fmt: skip
    empty_title = "No agents yet"

    class Media:
        css = {"all": ["console/graph.css", "console/run.css"]}

    @property
    def empty_text(self) -> str:
        folder = settings.GATEWAY_AGENT_DISCOVERY_PATH[0]
        return (
            f"Copy an Agents SDK module to {folder}/Weather/agent.py.\n"
            f"Within two seconds it is listed here and answers as default/weather; "
            f"`manage.py check_agent` says beforehand whether it will."
        )

    def get_queryset(self, request: HttpRequest) -> Any:
        found = Diagnostic.objects.filter(Q(agent_id=OuterRef("agent_id")) | Q(agent_id=OuterRef("folder_id")))
        count = found.order_by().annotate(all=Value(1)).values("all").annotate(number=Count("pk")).values("number")
        return (
            super()
            .get_queryset(request)
            .select_related("settings")
            .annotate(
                diagnostic_count=Coalesce(Subquery(count, output_field=IntegerField()), Value(0)),
                first_reason=Subquery(found.order_by("severity", "pk").values("reason")[:1]),
                is_pinned=Exists(PinnedVersion.objects.filter(folder_id=OuterRef("folder_id"))),
            )
        )

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """The rows know whether the workers serve the same version of them."""
        shown = super().get_changelist_instance(request)
        disputed = serving_workers.disputed(serving_workers.answering(clock.now()))
        for drop_in in shown.result_list:
            drop_in.is_disputed = drop_in.agent_id in disputed
        return shown

    @admin.display(description="State", ordering="state")
    def state_shown(self, drop_in: Any) -> str:
        labels = [version_page.state_label(drop_in, is_pinned=drop_in.is_pinned)]
        if not self._is_enabled(drop_in):
            labels = [("Disabled", None), *(labels if drop_in.state != State.LIVE else [])]
        if drop_in.is_disputed:
            labels.append(("Workers disagree", "danger"))
        shown = ((display_for_label((words, words), "-", {words: colour}),) for words, colour in labels)
        return format_html('<div class="flex flex-wrap gap-1">{}</div>', format_html_join("", "{}", shown))

    def _is_enabled(self, drop_in: DropIn) -> bool:
        return not hasattr(drop_in, "settings") or drop_in.settings.enabled

    @admin.display(description="Tools")
    def tool_count(self, drop_in: DropIn) -> int:
        return len(drop_in.tools)

    @admin.display(description="Problem", empty_value="-")
    def problem(self, drop_in: Any) -> str | None:
        if not drop_in.diagnostic_count:
            return None
        more = f" (and {drop_in.diagnostic_count - 1} more)" if drop_in.diagnostic_count > 1 else ""
        return Truncator(drop_in.first_reason).chars(90) + more

    @admin.display(description="Tools")
    def tools_shown(self, drop_in: DropIn) -> str:
        return _listed(drop_in.tools)

    @admin.display(description="Handoffs")
    def handoffs_shown(self, drop_in: DropIn) -> str:
        return _listed(drop_in.handoffs)

    @admin.action(description="Enable", permissions=["change"])
    def enable(self, request: HttpRequest, queryset: QuerySet[DropIn]) -> None:
        _tell(request, set_enabled(queryset, enabled=True), "enabled")

    @admin.action(description="Disable", permissions=["change"])
    def disable(self, request: HttpRequest, queryset: QuerySet[DropIn]) -> None:
        _tell(request, set_enabled(queryset, enabled=False), "disabled: not listed, and a chat with it is refused")

    def has_add_permission(self, _request: HttpRequest) -> bool:
        return False  # a folder makes one

    def has_delete_permission(self, request: HttpRequest, obj: DropIn | None = None) -> bool:
        is_gone = isinstance(obj, DropIn) and obj.state == State.GONE
        return is_gone and bool(super().has_delete_permission(request, obj))

    def delete_model(self, request: HttpRequest, obj: DropIn) -> None:
        super().delete_model(request, obj)
        if not DropIn.objects.filter(folder_id=obj.folder_id).exists():
            versions.forget(obj.folder_id)

    # --- versions ----------------------------------------------------------------------------------------------------

    def get_urls(self) -> list[Any]:
        staff_only = self.admin_site.admin_view
        return [
            path("<int:pk>/serving/", require_GET(self.serving_view), name="catalog_dropin_serving"),
            path("<int:pk>/put-back/", staff_only(require_POST(self.put_back_view)), name="catalog_dropin_put_back"),
            path("<int:pk>/review/", staff_only(require_GET(self.review_view)), name="catalog_dropin_review"),
            path("<int:pk>/approve/", staff_only(require_POST(self.approve_view)), name="catalog_dropin_approve"),
            path("<int:pk>/follow/", staff_only(require_POST(self.follow_view)), name="catalog_dropin_follow"),
            *super().get_urls(),
        ]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        drop_in = self.get_object(request, object_id)
        more = {**self._page(request, drop_in), "graph": picture(drop_in.graph)} if drop_in else {}
        shown: HttpResponse = super().change_view(request, object_id, form_url, more | (extra_context or {}))
        return shown

    def serving_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """What serves, by itself: the open page asks for it again and again.

        Whose session has ended is refused, not led to the login page: that would appear in the middle of the old one.
        """
        drop_in = get_object_or_404(DropIn, pk=pk)
        if not (self.admin_site.has_permission(request) and self.has_view_permission(request, drop_in)):
            raise PermissionDenied
        return TemplateResponse(request, "admin/catalog/dropin/serving.html", self._page(request, drop_in))

    def put_back_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        drop_in = self._changeable(request, pk)
        put_back = self._restore if drop_in.state == State.GONE else self._pin
        try:
            put_back(request, drop_in, request.POST.get("digest", ""))
        except CannotPutBack as error:
            messages.error(request, error.message)
        return redirect("admin:catalog_dropin_change", pk)

    def _pin(self, request: HttpRequest, drop_in: DropIn, digest: str) -> None:
        version = versions.put_back(drop_in.folder_id, digest, by=request.user)
        self.log_change(request, drop_in, f"Version {version.short} put back.")
        messages.success(request, f"Version {version.short} serves in all workers within about a second.")

    def _restore(self, request: HttpRequest, drop_in: DropIn, digest: str) -> None:
        versions.restore(drop_in.folder_id, digest, Path(drop_in.folder))
        self.log_change(request, drop_in, f"Folder restored with version {digest[:SHORT]}.")
        messages.success(
            request, f"{drop_in.folder} is restored with version {digest[:SHORT]}, and serves in a moment."
        )

    def follow_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        drop_in = self._changeable(request, pk)
        if versions.follow_folder(drop_in.folder_id):
            self.log_change(request, drop_in, "Follows its folder again.")
            messages.success(request, "What lies in the folder serves in all workers within about a second.")
        else:
            messages.warning(request, "It follows its folder already.")
        return redirect("admin:catalog_dropin_change", pk)

    def review_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """What lies in the folder, beside what serves, to be approved."""
        drop_in = self._approvable(request, pk)
        try:
            review = approved_versions.review(drop_in)
        except CannotReview as error:
            messages.error(request, error.message)
            return redirect("admin:catalog_dropin_change", pk)
        context = self.admin_site.each_context(request) | {
            "title": f"Approve {drop_in.folder_id}?",
            "opts": self.opts,
            "original": drop_in,
            "review": review,
        }
        return TemplateResponse(request, "admin/catalog/dropin/review.html", context)

    def approve_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """By the digest that was shown: what has changed since is not approved."""
        drop_in = self._approvable(request, pk)
        digest, note = request.POST.get("digest", ""), request.POST.get("note", "")[:300]
        folder_id, path = drop_in.folder_id, Path(drop_in.folder)
        try:
            approved = approved_versions.approve(folder_id, path, digest, by=request.user, note=note)
        except CannotKeep as error:
            messages.error(request, f"Not approved. {error.message}")
        else:
            self.log_change(request, drop_in, f"Version {approved.short} approved.")
            messages.success(request, f"Version {approved.short} is approved; it may serve within about a second.")
        return redirect("admin:catalog_dropin_change", pk)

    def _approvable(self, request: HttpRequest, pk: int) -> DropIn:
        drop_in = get_object_or_404(DropIn, pk=pk)
        if not (self.has_view_permission(request, drop_in) and modules_admin.may_approve(request)):
            raise PermissionDenied
        return drop_in

    def _changeable(self, request: HttpRequest, pk: int) -> DropIn:
        drop_in = get_object_or_404(DropIn, pk=pk)
        if not self.has_change_permission(request, drop_in):
            raise PermissionDenied
        return drop_in

    def _page(self, request: HttpRequest, drop_in: DropIn) -> dict[str, Any]:
        may_change = self.has_change_permission(request, drop_in)
        may_approve = modules_admin.may_approve(request)
        return {"page": version_page.page(drop_in), "may_change": may_change, "may_approve": may_approve}


@transaction.atomic
def set_enabled(drop_ins: QuerySet[DropIn], *, enabled: bool) -> int:
    """Enable or disable these agents, in all workers within a second; returns how many."""
    chosen = list(drop_ins.select_related("settings"))
    for drop_in in chosen:  # one by one, because the history of changes tells of each what it was before
        row = getattr(drop_in, "settings", None) or AgentSettings(drop_in=drop_in)
        row.enabled = enabled
        row.save()
    return len(chosen)


def _listed(entries: list[Any]) -> str:
    """Names, whether discovery stored names or objects with one."""
    names = [str(entry.get("name", entry)) if isinstance(entry, dict) else str(entry) for entry in entries]
    return ", ".join(names) or "none"


def _tell(request: HttpRequest, count: int, what: str) -> None:
    messages.success(request, f"{count} {'agent' if count == 1 else 'agents'} {what}.")
