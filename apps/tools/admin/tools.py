"""Tools in the console: add one, try it, import many."""

# mypy: disable-error-code="misc, untyped-decorator, type-arg"
# django-unfold ships no types: its classes and decorators are Any to mypy. ModelForm takes no argument at run time.

from collections import Counter
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from unfold.admin import ModelAdmin
from unfold.decorators import action
from unfold.utils import display_for_label

from apps.tools import refresh
from apps.tools.admin import importing, trying
from apps.tools.admin.tool_form import ToolForm
from apps.tools.in_force import description_of
from apps.tools.models import Kind, Tool
from apps.tools.openapi_import import import_operations
from apps.tools.presentation import state_of

_STATE_COLOURS = {
    "ok": "success", "off": None, "gone": "warning", "server_off": None, "server_down": "danger", "broken": "danger",
}  # fmt: skip
_LEVELS = {"made": messages.SUCCESS, "updated": messages.SUCCESS, "refused": messages.ERROR}


class StateFilter(admin.SimpleListFilter):
    title = "state"
    parameter_name = "state"

    def lookups(self, _request: HttpRequest, _model_admin: Any) -> list[tuple[str, str]]:
        return [("on", "In use"), ("off", "Switched off"), ("gone", "Gone from its server")]

    def queryset(self, _request: HttpRequest, queryset: QuerySet[Tool]) -> QuerySet[Tool]:
        off = Q(enabled=False) | Q(server__enabled=False)
        match self.value():
            case "on":
                return queryset.filter(gone_at=None).exclude(off)
            case "off":
                return queryset.filter(off)
            case "gone":
                return queryset.filter(gone_at__isnull=False)
            case _:
                return queryset


@admin.register(Tool)
class ToolAdmin(ModelAdmin):
    form = ToolForm
    list_display = ["name", "state_shown", "kind", "source_shown", "described", "approval"]
    list_filter = [StateFilter, "kind", "needs_approval", "server"]
    list_filter_sheet = False
    list_select_related = ["server"]
    search_fields = ["name", "description", "function", "url", "remote_name"]
    actions = ["enable", "disable"]
    actions_list = ["import_openapi"]
    actions_detail = ["test_run", "read_signature"]
    readonly_fields = ["state_shown", "remedy", "source_shown", "server", "remote_name", "signature"]
    empty_title = "No tools"
    empty_text = (
        "A tool is a Python function, an HTTP request, or comes from an MCP server; agents are lent it by its name.\n"
        "Add one, import an API's OpenAPI document, or add an MCP server, whose tools are then listed here."
    )
    _about = ["description", "enabled"]
    _local = ("Python function", {"classes": ["kind-local"], "fields": ["function"]})
    _request_fields = [("method", "url"), "headers", "secret_headers"]
    _http_rest = ["body", "parameters", "extract", "allow_private_hosts"]
    _use = (
        "How it may be used",
        {
            "fields": [
                ("needs_approval", "max_calls_per_run"), ("is_idempotent", "retries"), ("timeout", "max_concurrency"),
                ("cache_seconds", "max_output_bytes"),
            ]
        },
    )  # fmt: skip
    add_fieldsets = [
        (None, {"fields": [("name", "kind"), *_about]}),
        _local,
        ("HTTP request", {"classes": ["kind-http"], "fields": [*_request_fields, *_http_rest]}),
        _use,
    ]

    class Media:
        js = ["console/tool.js"]

    def get_fieldsets(self, _request: HttpRequest, obj: Tool | None = None) -> Any:
        if obj is None:
            return self.add_fieldsets
        state = ("State", {"fields": [("state_shown", "source_shown"), *(["remedy"] if state_of(obj).remedy else [])]})
        return [state, (None, {"fields": [("name", "kind"), *self._about]}), self._of_kind(obj), self._use]

    def _of_kind(self, tool: Tool) -> Any:
        match tool.kind:
            case Kind.LOCAL:
                return "Python function", {"fields": ["function", "signature"]}
            case Kind.MCP:
                return "MCP server", {"fields": [("server", "remote_name"), "signature"]}
            case _:
                clear = ["clear_secret_headers"] if tool.encrypted_headers else []
                return "HTTP request", {"fields": [*self._request_fields, *clear, *self._http_rest]}

    @admin.display(description="State")
    def state_shown(self, tool: Tool) -> str:
        state = state_of(tool)
        return str(display_for_label((state.code, state.words), "-", _STATE_COLOURS))

    @admin.display(description="What to do")
    def remedy(self, tool: Tool) -> str:
        return state_of(tool).remedy

    @admin.display(description="Source")
    def source_shown(self, tool: Tool) -> str:
        return tool.source()

    @admin.display(description="Description")
    def described(self, tool: Tool) -> str:
        text = description_of(tool).strip().partition("\n")[0]
        return text if len(text) <= 80 else f"{text[:79]}…"

    @admin.display(description="Approval")
    def approval(self, tool: Tool) -> str:
        return str(display_for_label("Needs approval", "", {"Needs approval": "info"})) if tool.needs_approval else ""

    @admin.display(description="Arguments")
    def signature(self, tool: Tool) -> str:
        needed = tool.parameters.get("required", ())
        names = [f"{name}{'' if name in needed else '?'}" for name in tool.parameters.get("properties", {})]
        return ", ".join(names) or "none"

    # --- several rows ------------------------------------------------------------------------------------------------

    @admin.action(description="Switch on", permissions=["change"])
    def enable(self, request: HttpRequest, queryset: QuerySet[Tool]) -> None:
        _tell(request, _switch(queryset, on=True), "switched on")

    @admin.action(description="Switch off", permissions=["change"])
    def disable(self, request: HttpRequest, queryset: QuerySet[Tool]) -> None:
        _tell(request, _switch(queryset, on=False), "switched off")

    # --- buttons -----------------------------------------------------------------------------------------------------

    @action(description="Test run", icon="play_arrow", permissions=["change"])
    def test_run(self, request: HttpRequest, object_id: str) -> HttpResponse:
        tool = get_object_or_404(Tool.objects.select_related("server"), pk=object_id)
        refused = trying.why_not(request.user, tool)
        form = trying.TryForm(tool.parameters, request.POST if request.method == "POST" else None)
        tried = trying.try_out(tool, form.arguments()) if not refused and form.is_valid() else None
        context = self.admin_site.each_context(request) | {
            "title": f"Test run of {tool}",
            "opts": self.opts,
            "original": tool,
            "form": form,
            "tried": tried,
            "refused": refused,
            "back": reverse("admin:tools_tool_change", args=[tool.pk]),
        }
        return TemplateResponse(request, "admin/tools/tool/test_run.html", context)

    @action(
        description="Read signature",
        icon="refresh",
        permissions=["read_signature"],
        dialog={
            "title": "Read the function's signature again?",
            "description": "Tries to import its module if that failed before. A module that is imported stays as it "
            "is: what changed in its file counts after a restart.",
            "form_submit_text": "Read",
        },
    )
    def read_signature(self, request: HttpRequest, _form: forms.Form, object_id: str) -> HttpResponse:
        tool = get_object_or_404(Tool, pk=object_id)
        done = refresh.read_function(tool)
        words = done.problem or ("Its arguments have changed." if done.is_changed else "It is as it was.")
        messages.add_message(request, messages.ERROR if done.problem else messages.SUCCESS, words)
        return HttpResponse(headers={"HX-Redirect": reverse("admin:tools_tool_change", args=[object_id])})

    def has_read_signature_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        is_local = Tool.objects.filter(pk=object_id, kind=Kind.LOCAL).exists()
        return is_local and bool(self.has_change_permission(request))

    @action(description="Import OpenAPI", icon="upload", permissions=["import_openapi"])
    def import_openapi(self, request: HttpRequest) -> HttpResponse:
        form = importing.DocumentForm(*((request.POST, request.FILES) if request.method == "POST" else ()))
        operations = form.cleaned_data["operations"] if form.is_valid() else []
        if operations and "import" in request.POST:
            wanted = importing.chosen(operations, request.POST.getlist("operation"))
            if wanted:
                self._import(request, form, wanted)
                return redirect("admin:tools_tool_changelist")
            form.add_error(None, "Choose at least one operation.")
        context = self.admin_site.each_context(request) | {
            "title": "Import an OpenAPI document",
            "opts": self.opts,
            "form": form,
            "text": form.cleaned_data["text"] if operations else "",
            "operations": importing.listed(operations),
            "shown": importing.SECOND if operations else importing.FIRST,
        }
        return TemplateResponse(request, "admin/tools/tool/import.html", context)

    def _import(self, request: HttpRequest, form: importing.DocumentForm, wanted: list[Any]) -> None:
        done = import_operations(
            wanted,
            update=form.cleaned_data["existing"] == "update",
            secret_headers=form.cleaned_data["secret_headers"],
            allow_private_hosts=form.cleaned_data["allow_private_hosts"],
        )
        for outcome, number in Counter(one.outcome for one in done).items():
            names = [f"{one.name}{f' ({one.reason})' if one.reason else ''}" for one in done if one.outcome == outcome]
            more = f" and {len(names) - 10} more" if len(names) > 10 else ""
            level = _LEVELS.get(outcome, messages.WARNING)
            messages.add_message(request, level, f"{number} {outcome}: {', '.join(names[:10])}{more}.")

    def has_import_openapi_permission(self, request: HttpRequest) -> bool:
        return bool(self.has_add_permission(request) and self.has_change_permission(request))


def _switch(tools: QuerySet[Tool], *, on: bool) -> int:
    """How many it was not yet. Row by row, for the history."""
    others = list(tools.exclude(enabled=on))
    for tool in others:
        tool.enabled = on
        tool.save(update_fields=["enabled"])
    return len(others)


def _tell(request: HttpRequest, count: int, what: str) -> None:
    level = messages.SUCCESS if count else messages.WARNING
    messages.add_message(request, level, f"{count} {'tool' if count == 1 else 'tools'} {what}.")
