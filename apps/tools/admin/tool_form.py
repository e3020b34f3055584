"""The form of a tool. Which fields count depends on its kind; what cannot be stored is said beside its field."""

# mypy: disable-error-code="misc, type-arg"
# django-unfold ships no types: its classes are Any to mypy. ModelForm takes no argument at run time.

import json
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.forms.fields import InvalidJSONInput
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextareaWidget, UnfoldBooleanSwitchWidget

from apps.core.secrets import SecretUnreadable
from apps.tools.checking import problem_with_headers
from apps.tools.models import Kind, Tool


class JsonField(forms.JSONField):
    """Shown on several lines; `empty` is what an empty text stands for."""

    def __init__(self, *, empty: Any = None, rows: int = 3, **kwargs: Any) -> None:
        kwargs.setdefault("widget", UnfoldAdminTextareaWidget(attrs={"rows": rows, "spellcheck": "false"}))
        super().__init__(required=False, **kwargs)
        self._empty = empty

    def prepare_value(self, value: Any) -> Any:
        if isinstance(value, InvalidJSONInput):
            return value  # what was typed
        return "" if value in (None, {}) else json.dumps(value, indent=2, ensure_ascii=False)

    def to_python(self, value: Any) -> Any:
        python = super().to_python(value)
        return self._empty if python is None else python


class SecretHeadersWidget(UnfoldAdminTextareaWidget):
    """What was typed is not sent back."""

    def format_value(self, _value: Any) -> str:
        return ""


class SecretHeadersField(forms.CharField):
    """One header a line, as `Name: value`."""

    def __init__(self, **kwargs: Any) -> None:
        attrs = {"rows": 2, "spellcheck": "false", "autocomplete": "off", "placeholder": "Authorization: Bearer …"}
        super().__init__(required=False, widget=SecretHeadersWidget(attrs=attrs), **kwargs)

    def clean(self, value: Any) -> dict[str, str]:
        lines = [line.strip() for line in str(super().clean(value)).splitlines() if line.strip()]
        if any(":" not in line for line in lines):
            raise ValidationError("Write one header a line, as name and value: Authorization: Bearer abc")
        headers = {name.strip(): text.strip() for name, _, text in (line.partition(":") for line in lines)}
        if problem := problem_with_headers(headers):
            raise ValidationError(problem)
        return headers


class ToolForm(forms.ModelForm):
    parameters = JsonField(
        empty={},
        rows=10,
        label="Arguments",
        help_text="JSON schema (draft 2020-12) of an object. Empty: a text for each argument in braces.",
    )
    headers = JsonField(
        empty={},
        help_text='Sent with every request, with arguments in braces if you like: {"Accept-Language": "{language}"}. '
        "Secrets belong below.",
    )
    body = JsonField(rows=4, help_text=Tool._meta.get_field("body").help_text)  # noqa: SLF001  # Django documents it
    secret_headers = SecretHeadersField(
        label="Secret headers", help_text="One a line: Authorization: Bearer abc. Stored encrypted, shown nowhere."
    )
    clear_secret_headers = forms.BooleanField(
        label="Remove the stored secret headers", required=False, widget=UnfoldBooleanSwitchWidget()
    )

    class Meta:
        model = Tool
        fields = [
            "name", "kind", "description", "enabled", "parameters", "function", "method", "url", "body", "headers",
            "extract", "allow_private_hosts", "needs_approval", "is_idempotent", "retries", "cache_seconds",
            "max_calls_per_run", "timeout", "max_concurrency", "max_output_bytes",
        ]  # fmt: skip
        widgets = {"kind": UnfoldAdminSelectWidget()}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk:
            if "kind" in self.fields:
                self.fields["kind"].disabled = True
                self.fields["kind"].help_text = "Stays: make a new tool for another kind."
        elif "kind" in self.fields:
            kind: Any = self.fields["kind"]
            kind.choices = [one for one in Kind.choices if one[0] != Kind.MCP]
        if self.instance.encrypted_headers and "secret_headers" in self.fields:
            self.fields["secret_headers"].help_text = f"{_stored(self.instance)} Leave this empty to keep it."

    def clean_secret_headers(self) -> dict[str, str]:
        secret: dict[str, str] = self.cleaned_data["secret_headers"]
        if secret and self.data.get(self.add_prefix("clear_secret_headers")):
            raise ValidationError("Either new secret headers or none: leave this empty, or do not remove the stored.")
        return secret

    def save(self, commit: bool = True) -> Tool:
        secret = self.cleaned_data.get("secret_headers")
        if secret or self.cleaned_data.get("clear_secret_headers"):
            self.instance.secret_headers = secret or {}
        tool: Tool = super().save(commit)
        return tool


def _stored(tool: Tool) -> str:
    try:
        names = ", ".join(tool.secret_headers)
    except SecretUnreadable as error:
        return str(error)
    return f"Stored, encrypted: {names}."
