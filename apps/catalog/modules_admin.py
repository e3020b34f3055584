"""Which modules may load, in the console: rules over ids, the lock, denied imports, approved versions."""

# mypy: disable-error-code="misc, untyped-decorator, type-arg"
# django-unfold ships no types: its classes and decorators are Any to mypy. ModelForm takes no argument at run time.

import re
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from unfold.admin import ModelAdmin
from unfold.utils import display_for_label
from unfold.widgets import UnfoldBooleanSwitchWidget

from apps.catalog import approved_versions, modules
from apps.catalog.models import ApprovedVersion, Diagnostic, DropIn, Effect, ModulePolicy, ModuleRule, State
from apps.catalog.modules import Policy, Rule
from apps.core.forms import LinesField
from apps.core.globs import AGENT_GLOB
from apps.core.row_admin import ConfigRowAdmin

_EFFECT_COLOURS = {"Allow": "success", "Deny": "danger"}
_MODULE = re.compile(r"[\w*]+(\.[\w*]+)*")
# Processes, native code, raw sockets, and what leads to them by another name.
USUAL = (
    "subprocess", "_posixsubprocess", "asyncio.subprocess", "multiprocessing", "concurrent.futures.process", "pty",
    "posix", "os.system", "os.popen", "os.exec*", "os.spawn*", "os.posix_spawn*", "os.fork*", "ctypes", "_ctypes",
    "cffi", "socket", "_socket", "socketserver",
)  # fmt: skip


def may_approve(request: HttpRequest) -> bool:
    return bool(request.user.has_perm("catalog.add_approvedversion"))


def known_folders() -> set[str]:
    """The ids of the folders that there are now, those included that a rule keeps out."""
    found = DropIn.objects.exclude(state=State.GONE).values_list("folder_id", flat=True)
    denied = Diagnostic.objects.filter(code="denied").values_list("agent_id", flat=True)
    return set(found) | set(denied)


def _value(row: ModuleRule) -> Rule:
    return Rule(row.pattern, Effect(row.effect), row.reason)


# --- rules -----------------------------------------------------------------------------------------------------------


class RuleForm(forms.ModelForm):
    class Meta:
        model = ModuleRule
        fields = ["effect", "pattern", "reason"]

    def clean_pattern(self) -> str:
        pattern: str = self.cleaned_data["pattern"].strip().lower()
        if not AGENT_GLOB.fullmatch(pattern):
            raise ValidationError("An id or a glob over ids: letters, digits, dots, dashes, slashes and stars.")
        return pattern


@admin.register(ModuleRule)
class ModuleRuleAdmin(ModelAdmin):
    form = RuleForm
    fields = ["effect", "pattern", "reason"]
    list_display = ["pattern", "effect_shown", "decides", "reason", "created_by", "created_at"]
    list_filter = ["effect"]
    list_filter_sheet = False
    search_fields = ["pattern", "reason"]
    list_before_template = "admin/catalog/modulerule/policy.html"
    empty_title = "No rules"
    empty_text = (
        "Every folder may load. A rule denies or allows those whose ids fit a glob; the more specific one decides, "
        "and of two that are as specific the one that denies."
    )

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        shown: HttpResponse = super().changelist_view(request, {"modules": _summary(request)} | (extra_context or {}))
        return shown

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """The rows know what they decide."""
        shown = super().get_changelist_instance(request)
        policy, folders = modules.load_policy(), known_folders()
        for row in shown.result_list:
            row.decision = _decision(_value(row), policy, folders)
        return shown

    @admin.display(description="Effect", ordering="effect")
    def effect_shown(self, row: ModuleRule) -> str:
        return str(display_for_label(row.get_effect_display(), "-", _EFFECT_COLOURS))

    @admin.display(description="Decides about")
    def decides(self, row: Any) -> str:
        return str(row.decision)

    def save_model(self, request: HttpRequest, obj: ModuleRule, form: RuleForm, change: bool) -> None:
        if not change:
            obj.created_by_id = request.user.pk
        super().save_model(request, obj, form, change)
        if said := modules.remark(_value(obj), modules.load_policy(), known_folders()):
            messages.warning(request, f"{obj.pattern}: {said}")


def _decision(rule: Rule, policy: Policy, folders: set[str]) -> str:
    decided = sorted(id for id in folders if policy.ruling(id) == rule)
    return modules.remark(rule, policy, folders) or modules.shortened(decided)


def _summary(request: HttpRequest) -> dict[str, Any]:
    waiting = Diagnostic.objects.filter(code="not_approved").values("agent_id")
    return {
        "is_locked": modules.is_locked(),
        "by_environment": settings.GATEWAY_AGENT_LOCKED,
        "denied_imports": modules.load_policy().denied_imports,
        "waiting": DropIn.objects.filter(folder_id__in=waiting),
        "may_approve": request.user.has_perm("catalog.view_approvedversion"),
        "may_see_policy": request.user.has_perm("catalog.view_modulepolicy"),
    }


# --- the policy ------------------------------------------------------------------------------------------------------


class PolicyForm(forms.ModelForm):
    approve_serving = forms.BooleanField(
        label="Approve all that serves now",
        required=False,
        widget=UnfoldBooleanSwitchWidget,
        help_text="When the lock is saved. A lock without it stops every agent that was not approved.",
    )
    denied_imports = LinesField(
        required=False,
        pattern=_MODULE,
        wrong="is no module's name: parts of letters, digits, underlines and stars, joined by dots.",
        help_text="Modules that no file of an agent's folder may import, one a line: subprocess denies subprocess.x "
        "too, and os.system denies “from os import system”. They are found in the text of the files; the use of a "
        "module that may be imported, such as os.system(...) after “import os”, is not.",
    )
    add_usual = forms.BooleanField(
        label="Add the usual ones",
        required=False,
        widget=UnfoldBooleanSwitchWidget,
        help_text=f"Processes, native code, raw sockets: {', '.join(USUAL)}.",
    )

    class Meta:
        model = ModulePolicy
        fields = ["locked", "denied_imports"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["approve_serving"].initial = not self.instance.locked

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        if cleaned.get("add_usual") and "denied_imports" in cleaned:
            cleaned["denied_imports"] = list(dict.fromkeys([*cleaned["denied_imports"], *USUAL]))
        return cleaned


@admin.register(ModulePolicy)
class ModulePolicyAdmin(ConfigRowAdmin):
    form = PolicyForm

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Nobody is shown a switch that would do nothing for them."""
        if not self.has_change_permission(request, obj):
            return [(None, {"fields": ["locked", "denied_imports"]})]
        lock = ["locked", "approve_serving"] if may_approve(request) else ["locked"]
        return [("Lock", {"fields": lock}), ("Imports", {"fields": ["denied_imports", "add_usual"]})]

    def save_model(self, request: HttpRequest, obj: ModulePolicy, form: PolicyForm, change: bool) -> None:
        """Approvals come first: a lock without them would stop what serves for a moment."""
        if obj.locked and form.cleaned_data["approve_serving"] and may_approve(request):
            count, failures = approved_versions.approve_serving(by=request.user, note="All that served")
            messages.success(request, f"{count} {'version' if count == 1 else 'versions'} approved.")
            for one in failures:
                messages.warning(request, f"Not approved: {one}")
        super().save_model(request, obj, form, change)

    def response_post_save_change(self, _request: HttpRequest, _obj: ModulePolicy) -> HttpResponse:
        return redirect("admin:catalog_modulerule_changelist")


# --- approved versions -----------------------------------------------------------------------------------------------


@admin.register(ApprovedVersion)
class ApprovedVersionAdmin(ModelAdmin):
    """Given on an agent's page, where its content is shown; withdrawn here, by deleting."""

    list_display = ["folder_id", "short", "approved_by", "approved_at", "note"]
    search_fields = ["folder_id", "digest", "note"]
    readonly_fields = fields = ["folder_id", "digest", "approved_by", "approved_at", "note"]
    empty_title = "Nothing is approved"
    empty_text = (
        "Open an agent to review and approve what lies in its folder, or approve all that serves under Module rules, "
        "Lock and imports."
    )

    def has_add_permission(self, _request: HttpRequest, _obj: Any = None) -> bool:
        return False

    def has_change_permission(self, _request: HttpRequest, _obj: Any = None) -> bool:
        return False
