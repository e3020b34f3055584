"""Declared agents in the console: write one, try it, publish it, and go back to what it was."""

# mypy: disable-error-code="misc, untyped-decorator, type-arg"
# django-unfold ships no types: its classes and decorators are Any to mypy.

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.text import Truncator
from django.views.decorators.http import require_GET, require_POST
from unfold.admin import ModelAdmin
from unfold.decorators import action
from unfold.forms import BaseDialogForm
from unfold.utils import display_for_label
from unfold.widgets import UnfoldBooleanSwitchWidget

from apps.catalog import declared_checks, declared_trial, declared_versions
from apps.catalog.declared_form import DeclaredAgentForm
from apps.catalog.diagnostics import Problem
from apps.catalog.models import DeclaredAgent, DeclaredVersion
from apps.core.ages import age
from apps.tools.in_force import matching

Stage = DeclaredAgent.Stage
STAGE_COLOURS = {Stage.DRAFT: "info", Stage.LIVE: "success", Stage.DISABLED: None}
_STORED_TOOLS = ["tools", ("tool_choice", "parallel_tool_calls")]
_ASKED_AGAIN = {"namespace", "upstream", "model", "parameters", "tools", "instructions", "name"}


class PublishForm(BaseDialogForm):
    """Asks for a word more where the agent cannot do what it should."""

    anyway = forms.BooleanField(label="Publish it all the same", widget=UnfoldBooleanSwitchWidget())

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        agent = get_object_or_404(DeclaredAgent, pk=self.object_id)
        if remarks := declared_checks.remarks(agent):
            self.fields["anyway"].help_text = " ".join(remarks)
        else:
            del self.fields["anyway"]


class ToolsFilter(admin.SimpleListFilter):
    title = "tools"
    parameter_name = "tools"

    def lookups(self, _request: HttpRequest, _model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", "With tools"), ("no", "Without tools")]

    def queryset(self, _request: HttpRequest, queryset: QuerySet[DeclaredAgent]) -> QuerySet[DeclaredAgent]:
        match self.value():
            case "yes":
                return queryset.exclude(tools=[])
            case "no":
                return queryset.filter(tools=[])
            case _:
                return queryset


@admin.register(DeclaredAgent)
class DeclaredAgentAdmin(ModelAdmin):
    form = DeclaredAgentForm
    list_display = ["id_shown", "title", "stage_shown", "model_shown", "tools_shown", "problem", "changed_at"]
    list_filter = ["stage", "namespace", ToolsFilter]
    list_filter_sheet = False
    list_select_related = ["upstream"]
    search_fields = ["namespace", "name", "title", "description", "instructions", "model"]
    actions = ["publish_all", "draft_all", "disable_all"]
    actions_detail = ["publish", "to_draft", "disable", "versions", "duplicate"]
    change_form_outer_before_template = "admin/catalog/declaredagent/page.html"
    change_form_outer_after_template = "admin/catalog/declaredagent/try.html"
    fieldsets = [
        ("Who it is", {"fields": [("namespace", "name"), ("title", "stage"), "description"]}),
        ("What it is told", {"fields": ["instructions"]}),
        (
            "What thinks",
            {
                "fields": [("upstream", "model"), "parameters"],
                "description": "A model that upstreams list, or a name that a route is for. Both empty: the default of "
                "its namespace, else the gateway's.",
            },
        ),
        ("What it may use", {"fields": ["chosen_tools", "tool_globs", ("tool_choice", "parallel_tool_calls")]}),
        ("How it answers", {"fields": ["response_format"]}),
        ("Limits", {"fields": [("max_turns", "run_timeout"), "on_disconnect"]}),
        ("How chat UIs show it", {"fields": ["greeting", "icon", ("tags", "aliases"), "listed"]}),
    ]
    empty_title = "No declared agents yet"
    empty_text = (
        "A declared agent needs no code: instructions, a model, and tools if you like.\n"
        "Add one as a draft, try it on its page, then publish it: chat UIs list it within a second."
    )

    class Media:
        css = {"all": ["console/run.css"]}
        js = ["console/try.js"]

    # --- the list ----------------------------------------------------------------------------------------------------

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """The rows know what is wrong with them."""
        shown = super().get_changelist_instance(request)
        judge = declared_checks.judge_in_force()
        for row in shown.result_list:
            row.problems = judge(row)
        return shown

    @admin.display(description="Id", ordering="name")
    def id_shown(self, agent: DeclaredAgent) -> str:
        return agent.agent_id

    @admin.display(description="Stage", ordering="stage")
    def stage_shown(self, agent: DeclaredAgent) -> str:
        return str(display_for_label((agent.stage, agent.get_stage_display()), "-", STAGE_COLOURS))

    @admin.display(description="Model", ordering="model")
    def model_shown(self, agent: DeclaredAgent) -> str:
        if agent.upstream:
            return f"{agent.upstream.slug}: {agent.model or 'its default'}"
        return agent.model or "the default"

    @admin.display(description="Tools")
    def tools_shown(self, agent: DeclaredAgent) -> int:
        return len(matching(agent.tools))

    @admin.display(description="Problem", empty_value="-")
    def problem(self, agent: Any) -> str | None:
        found: tuple[Problem, ...] = agent.problems
        if not found:
            return None
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        return Truncator(found[0].reason).chars(90) + more

    @admin.action(description="Publish", permissions=["change"])
    def publish_all(self, request: HttpRequest, queryset: QuerySet[DeclaredAgent]) -> None:
        _set_stage(request, queryset, Stage.LIVE, "published: live within a second")
        for agent in queryset:
            _warn(request, agent)

    @admin.action(description="Make drafts of them", permissions=["change"])
    def draft_all(self, request: HttpRequest, queryset: QuerySet[DeclaredAgent]) -> None:
        _set_stage(request, queryset, Stage.DRAFT, "drafts now: chats with them are refused")

    @admin.action(description="Disable", permissions=["change"])
    def disable_all(self, request: HttpRequest, queryset: QuerySet[DeclaredAgent]) -> None:
        _set_stage(request, queryset, Stage.DISABLED, "disabled: not listed, and a chat with them is refused")

    # --- saving ------------------------------------------------------------------------------------------------------

    def save_model(self, request: HttpRequest, obj: DeclaredAgent, form: DeclaredAgentForm, change: bool) -> None:
        super().save_model(request, obj, form, change)
        if not change or _ASKED_AGAIN & set(form.changed_data):
            # After the transaction: nothing may hold the database's write lock while a server is asked.
            transaction.on_commit(lambda: _tell_of(request, obj))

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        """A copy begins with what the original has."""
        given: dict[str, Any] = super().get_changeform_initial_data(request)
        original = DeclaredAgent.objects.filter(pk=_number(request.GET.get("copy_of"))).first()
        if original is None:
            return given
        values = forms.model_to_dict(original, exclude=["id", "aliases", "stage"])
        return {**values, "name": f"{original.name}-copy"[:80], "stage": Stage.DRAFT}

    # --- the page ----------------------------------------------------------------------------------------------------

    def get_urls(self) -> list[Any]:
        staff_only = self.admin_site.admin_view
        versions = staff_only(require_GET(self.versions_view))
        back = staff_only(require_POST(self.return_view))
        return [
            path("<int:pk>/versions/", versions, name="catalog_declaredagent_versions"),
            path("<int:pk>/return/", back, name="catalog_declaredagent_return"),
            *super().get_urls(),
        ]

    def get_fieldsets(self, request: HttpRequest, obj: DeclaredAgent | None = None) -> Any:
        """Who may not change it is shown the tools as they are stored, not the form's two halves."""
        if self.has_change_permission(request, obj):
            return self.fieldsets
        return [*self.fieldsets[:3], ("What it may use", {"fields": _STORED_TOOLS}), *self.fieldsets[4:]]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        agent = self.get_object(request, object_id)
        more = self._page(request, agent) if agent else {}
        shown: HttpResponse = super().change_view(request, object_id, form_url, more | (extra_context or {}))
        return shown

    def _page(self, request: HttpRequest, agent: DeclaredAgent) -> dict[str, Any]:
        newest = agent.versions.first()
        return {
            "agent": agent,
            "stage_colour": STAGE_COLOURS[Stage(agent.stage)],
            "problems": declared_checks.problems(agent),
            "newest": newest,
            "newest_for": age(newest.at) if newest else "",
            "may_change": self.has_change_permission(request, agent),
        }

    # --- versions ----------------------------------------------------------------------------------------------------

    @action(description="Versions", icon="history", permissions=["view"])
    def versions(self, _request: HttpRequest, object_id: str) -> HttpResponse:
        return redirect("admin:catalog_declaredagent_versions", object_id)

    def versions_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        agent = get_object_or_404(DeclaredAgent, pk=pk)
        if not self.has_view_permission(request, agent):
            raise PermissionDenied
        context = self.admin_site.each_context(request) | {
            "title": f"Versions of {agent.agent_id}",
            "opts": self.opts,
            "original": agent,
            "steps": list(declared_versions.steps(agent)),
            "may_change": self.has_change_permission(request, agent),
        }
        return TemplateResponse(request, "admin/catalog/declaredagent/versions.html", context)

    def return_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        agent = get_object_or_404(DeclaredAgent, pk=pk)
        if not self.has_change_permission(request, agent):
            raise PermissionDenied
        version = get_object_or_404(DeclaredVersion, agent=agent, number=_number(request.POST.get("number")))
        try:
            lost = declared_versions.return_to(agent, version)
        except ValidationError as error:
            for sentence in error.messages:
                messages.error(request, f"Not returned to version {version.number}: {sentence}")
            return redirect("admin:catalog_declaredagent_versions", pk)
        self.log_change(request, agent, f"Returned to version {version.number}.")
        messages.success(request, f"It is what it was in version {version.number}, in all workers within a second.")
        for sentence in [*lost, *declared_checks.remarks(agent)]:
            messages.warning(request, sentence)
        return redirect("admin:catalog_declaredagent_change", pk)

    # --- stages ------------------------------------------------------------------------------------------------------

    @action(
        description="Publish",
        icon="publish",
        permissions=["publish"],
        dialog={
            "title": "Publish this agent?",
            "description": "Whoever may use it can chat with it, in all workers within a second.",
            "form_class": PublishForm,
            "form_submit_text": "Publish",
        },
    )
    def publish(self, request: HttpRequest, _form: forms.Form, object_id: str) -> HttpResponse:
        agent = self._staged(request, object_id, Stage.LIVE, "is live")
        _tell_of(request, agent)
        return _back_to(agent)

    @action(
        description="Make it a draft",
        icon="edit_note",
        permissions=["to_draft"],
        dialog={
            "title": "Make a draft of this agent?",
            "description": "It is no longer listed, and chats with it are refused. It can be tried on this page.",
            "form_submit_text": "Make it a draft",
        },
    )
    def to_draft(self, request: HttpRequest, _form: forms.Form, object_id: str) -> HttpResponse:
        return _back_to(self._staged(request, object_id, Stage.DRAFT, "is a draft"))

    @action(
        description="Disable",
        icon="block",
        permissions=["disable"],
        dialog={
            "title": "Disable this agent?",
            "description": "It is no longer listed, and chats with it are refused, within a second.",
            "form_submit_text": "Disable",
        },
    )
    def disable(self, request: HttpRequest, _form: forms.Form, object_id: str) -> HttpResponse:
        return _back_to(self._staged(request, object_id, Stage.DISABLED, "is disabled"))

    @action(description="Duplicate", icon="content_copy", permissions=["add"])
    def duplicate(self, _request: HttpRequest, object_id: str) -> HttpResponse:
        """The form of a new one, with all that this one has but its name."""
        return redirect(f"{reverse('admin:catalog_declaredagent_add')}?copy_of={object_id}")

    def has_add_permission(self, request: HttpRequest, _object_id: str | None = None) -> bool:
        return bool(super().has_add_permission(request))

    def has_publish_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        return self._may_become(request, object_id, Stage.LIVE)

    def has_to_draft_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        return self._may_become(request, object_id, Stage.DRAFT)

    def has_disable_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        return self._may_become(request, object_id, Stage.DISABLED)

    def _may_become(self, request: HttpRequest, object_id: str | None, stage: str) -> bool:
        is_other = DeclaredAgent.objects.filter(pk=_number(object_id)).exclude(stage=stage).exists()
        return is_other and bool(self.has_change_permission(request))

    def _staged(self, request: HttpRequest, object_id: str, stage: Stage, words: str) -> DeclaredAgent:
        agent: DeclaredAgent = get_object_or_404(DeclaredAgent, pk=object_id)
        agent.stage = stage
        agent.save()
        self.log_change(request, agent, f"Stage: {stage.label}.")
        messages.success(request, f"{agent.agent_id} {words}.")
        return agent


@transaction.atomic
def set_stage(agents: QuerySet[DeclaredAgent], stage: Stage) -> int:
    """One by one, because each keeps a version. Returns how many were in another stage."""
    chosen = list(agents.exclude(stage=stage))
    for agent in chosen:
        agent.stage = stage
        agent.save()
    return len(chosen)


def _set_stage(request: HttpRequest, agents: QuerySet[DeclaredAgent], stage: Stage, what: str) -> None:
    count = set_stage(agents, stage)
    messages.success(request, f"{count} {'agent' if count == 1 else 'agents'} {what}.")


def _tell_of(request: HttpRequest, agent: DeclaredAgent) -> None:
    for remark in declared_trial.judge(agent):
        messages.add_message(request, messages.SUCCESS if remark.is_good else messages.WARNING, remark.text)


def _warn(request: HttpRequest, agent: DeclaredAgent) -> None:
    for sentence in declared_checks.remarks(agent):
        messages.warning(request, f"{agent.agent_id}: {sentence}")


def _back_to(agent: DeclaredAgent) -> HttpResponse:
    """The dialog's answer: the browser loads the detail page anew, with the messages on it."""
    return HttpResponse(headers={"HX-Redirect": reverse("admin:catalog_declaredagent_change", args=[agent.pk])})


def _number(text: str | None) -> int:
    return int(text) if text and text.isdecimal() and len(text) < 18 else 0
