"""Namespaces in the console: what answers for the agents of each that name no model which an upstream has."""

# mypy: disable-error-code="misc, untyped-decorator, type-arg"
# django-unfold ships no types: its classes and decorators are Any to mypy. ModelForm takes no argument at run time.

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html_join
from unfold.admin import ModelAdmin
from unfold.utils import display_for_label

from apps.catalog.answering import choice_substituted
from apps.catalog.declared_form import model_names
from apps.catalog.declared_problems import is_substitute, unlisted_model
from apps.catalog.models import DeclaredAgent, DropIn, Namespace, State
from apps.core import live_config
from apps.core.errors import Unavailable
from apps.core.forms import SuggestingInput, link_to
from apps.upstreams.routing import ModelRef, Preference, upstreams


class NamespaceForm(forms.ModelForm):
    class Meta:
        model = Namespace
        fields = ["name", "description", "upstream", "model"]
        widgets = {"model": SuggestingInput()}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "model" in self.fields:
            self.fields["model"].widget.suggestions = model_names()


@admin.register(Namespace)
class NamespaceAdmin(ModelAdmin):
    form = NamespaceForm
    list_display = ["name", "default_shown", "agents_counted", "description"]
    list_select_related = ["upstream"]
    search_fields = ["name", "description"]
    fieldsets = [
        ("Namespace", {"fields": ["name", "description"]}),
        (
            "What answers by default",
            {
                "fields": [("upstream", "model")],
                "description": "For agents that name no model, or one that no upstream lists. An upstream alone: its "
                "default model. Both empty: the gateway's default.",
            },
        ),
        ("Agents", {"fields": ["agents_shown"]}),
    ]
    readonly_fields = ["agents_shown"]
    empty_title = "No namespace has a default of its own"
    empty_text = (
        "The first part of an agent's id is its namespace: labs/planner is in labs, and folders make theirs by "
        "themselves.\nAdd one here to give its agents another default model than the gateway's."
    )

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """The rows know their agents."""
        shown = super().get_changelist_instance(request)
        agents = _agents()
        for row in shown.result_list:
            row.agent_links = agents[row.name]
        return shown

    @admin.display(description="Default model")
    def default_shown(self, row: Namespace) -> str:
        if row.upstream:
            return f"{row.upstream.slug}: {row.model or 'its default'}"
        return row.model or str(display_for_label(("none", "The gateway's"), "-", {"none": None}))

    @admin.display(description="Agents")
    def agents_counted(self, row: Any) -> int:
        return len(row.agent_links)

    @admin.display(description="Agents in it", empty_value="none")
    def agents_shown(self, row: Namespace) -> str | None:
        links = _agents()[row.name]
        return format_html_join(", ", "{}", ((link_to(url, id),) for id, url in sorted(links.items()))) or None

    def save_model(self, request: HttpRequest, obj: Namespace, form: NamespaceForm, change: bool) -> None:
        super().save_model(request, obj, form, change)
        if said := _unanswered(obj):
            messages.warning(request, said)


def _agents() -> Mapping[str, Mapping[str, str]]:
    """By namespace the ids of its agents, each with the address of its page. Two queries."""
    found: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for pk, agent_id in DropIn.objects.exclude(state=State.GONE).values_list("pk", "agent_id"):
        found[agent_id.partition("/")[0]][agent_id] = reverse("admin:catalog_dropin_change", args=[pk])
    for agent in DeclaredAgent.objects.only("pk", "namespace", "name"):
        found[agent.namespace][agent.agent_id] = reverse("admin:catalog_declaredagent_change", args=[agent.pk])
    return found


def _unanswered(row: Namespace) -> str:
    """What is wrong with its default, in words; empty when nothing is, or nothing is set."""
    wanted = ModelRef(row.upstream.slug if row.upstream else "", row.model)
    if not wanted:
        return ""
    live_config.refresh()
    try:
        route = upstreams.current().route(None, prefer=Preference(instead=wanted))
    except Unavailable as error:
        return error.message
    found = choice_substituted(wanted, route) if is_substitute(wanted, route) else unlisted_model(wanted, route)
    return f"{found.reason} {found.remedy}" if found else ""
