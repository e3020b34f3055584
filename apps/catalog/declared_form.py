"""The form of a declared agent."""

# mypy: disable-error-code="misc, type-arg"
# django-unfold ships no types: its classes are Any to mypy. ModelForm takes no argument at run time.

import json
import re
from typing import Any, cast

from django import forms
from django.core.exceptions import ValidationError
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.widgets import UnfoldAdminSelect2MultipleWidget, UnfoldAdminTextareaWidget

from apps.catalog.declared_checks import ALIAS, TOOL, VARIABLES, check
from apps.catalog.models import DeclaredAgent, Namespace
from apps.core import live_config
from apps.core.forms import LinesField, SuggestingInput
from apps.tools.in_force import tools
from apps.upstreams.models import ModelRoute, UpstreamModel

_TAG = re.compile(r".{1,40}")


class JsonArea(UnfoldAdminTextareaWidget):
    """JSON as people read it."""

    def __init__(self, rows: int = 4) -> None:
        super().__init__(attrs={"rows": rows, "spellcheck": "false", "class": "font-mono"})

    def format_value(self, value: Any) -> Any:
        try:
            parsed = json.loads(value) if value else None
        except ValueError:  # what somebody has just typed wrongly: they get it back
            return value
        return "" if parsed in (None, {}) else json.dumps(parsed, indent=2, ensure_ascii=False)


class ParametersField(forms.JSONField):
    """A JSON object; empty is the empty one."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("widget", JsonArea())
        kwargs.setdefault("error_messages", {"invalid": 'This is no JSON. An example: {"temperature": 0.2}'})
        super().__init__(required=False, **kwargs)

    def clean(self, value: Any) -> Any:
        return super().clean(value) or {}


def model_names() -> tuple[str, ...]:
    """What may be chosen as a model: those that upstreams list, and the names that routes are for."""
    routes = ModelRoute.objects.filter(enabled=True).exclude(pattern__contains="*").values_list("pattern", flat=True)
    listed = UpstreamModel.objects.filter(upstream__enabled=True).values_list("name", flat=True)
    return tuple(dict.fromkeys([*routes, *listed.order_by("name").distinct()[:1000]]))


def variables_help() -> SafeString:
    rows = ((f"{{{{{name}}}}}", meaning) for name, meaning in VARIABLES.items())
    return format_html(
        "The system message. What is filled in: {}",
        format_html_join(", ", "<code>{}</code> {}", rows),
    )


class DeclaredAgentForm(forms.ModelForm):
    parameters = ParametersField(
        help_text='Parameters of the model, unless a request says otherwise: {"temperature": 0.2, "max_tokens": 800}. '
        'What only your server knows goes into extra_body: {"extra_body": {"top_k": 20}}.',
    )
    chosen_tools = forms.MultipleChoiceField(
        label="Tools",
        required=False,
        widget=UnfoldAdminSelect2MultipleWidget(),
        help_text="Of the tools that the gateway has.",
    )
    tool_globs = LinesField(
        label="Further tools",
        required=False,
        pattern=TOOL,
        wrong="is no tool's name, and no glob over names: letters, digits, _, - and stars.",
        help_text="Names and globs, one a line: github_* lends whatever that server lists.",
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 2, "spellcheck": "false"}),
    )
    response_format = forms.JSONField(
        required=False,
        widget=JsonArea(),
        error_messages={"invalid": 'This is no JSON. An example: {"type": "json_object"}'},
        help_text='As OpenAI has it: {"type": "json_schema", "json_schema": {"name": "answer", "schema": {…}}}. '
        "Empty: text.",
    )
    tags = LinesField(
        required=False,
        pattern=_TAG,
        wrong="is longer than 40 characters.",
        help_text="One a line.",
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 2}),
    )
    aliases = LinesField(
        required=False,
        pattern=ALIAS,
        wrong="is no model name: lower-case letters, digits, dots and dashes, with at most one slash.",
        help_text="Further model names that it answers to, one a line.",
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 2, "spellcheck": "false"}),
    )

    class Meta:
        model = DeclaredAgent
        fields = [
            "namespace", "name", "title", "description", "instructions", "upstream", "model", "parameters",
            "tool_choice", "parallel_tool_calls", "response_format", "max_turns", "run_timeout", "on_disconnect",
            "listed", "greeting", "icon", "tags", "aliases", "stage",
        ]  # fmt: skip
        widgets = {
            "namespace": SuggestingInput(),
            "description": UnfoldAdminTextareaWidget(attrs={"rows": 3}),
            "instructions": UnfoldAdminTextareaWidget(attrs={"rows": 12}),
            "model": SuggestingInput(),
            "tool_choice": SuggestingInput(),
            "greeting": UnfoldAdminTextareaWidget(attrs={"rows": 2}),
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "instructions" not in self.fields:  # shown to somebody who may not change it
            return
        live_config.refresh()
        names, given = sorted(tools()), self.initial.get("tools", self.instance.tools)  # the former of a copy
        lent = given if isinstance(given, list) else []
        cast("forms.ChoiceField", self.fields["chosen_tools"]).choices = [(name, name) for name in names]
        self.initial["chosen_tools"] = [name for name in lent if name in names]
        self.initial["tool_globs"] = [name for name in lent if name not in names]
        self.fields["instructions"].help_text = variables_help()
        self.fields["namespace"].widget.suggestions = tuple(Namespace.objects.values_list("name", flat=True))
        self.fields["model"].widget.suggestions = model_names()
        self.fields["tool_choice"].widget.suggestions = ("auto", "required", "none", *names)

    def _post_clean(self) -> None:
        super()._post_clean()
        self.instance.tools = [*self.cleaned_data.get("chosen_tools", ()), *self.cleaned_data.get("tool_globs", ())]
        try:
            check(self.instance)
        except ValidationError as error:
            for field, sentences in error.message_dict.items():
                shown = {"tools": "tool_globs"}.get(field, field)
                if shown not in self.errors:
                    self.add_error(shown, sentences)

    @property
    def changed_data(self) -> list[str]:
        """For the history: the tools are one field."""
        changed = super().changed_data
        parts = {"chosen_tools", "tool_globs"}
        return [*(name for name in changed if name not in parts), *(["tools"] if parts & set(changed) else [])]
