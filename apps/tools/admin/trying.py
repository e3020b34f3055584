"""The test run of a tool: a field for each argument, and what the model would have been given."""

# mypy: disable-error-code="misc"
# django-unfold ships no types: its classes are Any to mypy.

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from asgiref.sync import async_to_sync
from django import forms
from django.contrib.auth.models import AnonymousUser, User
from django.core.exceptions import ValidationError
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget

from apps.core.json import encode
from apps.core.secrets import SecretUnreadable
from apps.tools.in_force import value_of
from apps.tools.invoke import invoke
from apps.tools.models import Tool, Transport
from apps.tools.tool import ToolOutput

_ABSENT = object()


@dataclass(frozen=True, slots=True)
class Tried:
    arguments: str
    output: ToolOutput
    milliseconds: float


class TryForm(forms.Form):
    """Empty fields are arguments that are left out."""

    def __init__(self, schema: Mapping[str, Any], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        needed = schema.get("required", ())
        for number, (name, one) in enumerate(schema.get("properties", {}).items()):
            self.fields[f"argument_{number}"] = _ArgumentField(name, one, is_needed=name in needed)
        self.fields["json"] = forms.CharField(
            label="Or all of them as JSON",
            required=False,
            widget=UnfoldAdminTextareaWidget(attrs={"rows": 3, "spellcheck": "false"}),
            help_text="As a model writes them. What stands here is sent as it is, instead of the fields.",
        )

    def arguments(self) -> str:
        """The JSON text that is sent, of a valid form."""
        given: str = self.cleaned_data["json"]
        return given if given.strip() else encode(dict(self._given())).decode()

    def _given(self) -> Iterator[tuple[str, Any]]:
        for name, field in self.fields.items():
            if isinstance(field, _ArgumentField) and self.cleaned_data[name] is not _ABSENT:
                yield field.argument, self.cleaned_data[name]


class _ArgumentField(forms.CharField):
    """A text stays one; anything else is written as JSON."""

    def __init__(self, name: str, schema: Any, *, is_needed: bool) -> None:
        schema = schema if isinstance(schema, dict) else {}
        self.argument = name
        self._kind = schema.get("type")
        about = str(schema.get("description", ""))
        super().__init__(
            label=f"{name}{' *' if is_needed else ''}",
            required=False,  # whether it may be missing is for the tool to say
            strip=False,
            widget=_widget(schema),
            help_text=" ".join(filter(None, [about, "" if self._kind == "string" else f"JSON: {self._told()}."])),
        )

    def _told(self) -> str:
        kinds = self._kind if isinstance(self._kind, list) else [self._kind or "anything"]
        return " or ".join(map(str, kinds))

    def clean(self, value: Any) -> Any:
        text = str(super().clean(value))
        if not text:
            return _ABSENT
        if self._kind == "string":
            return text
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            if self._kind in (None, ["string", "null"]):
                return text
            raise ValidationError(f"This is no JSON: {error}.") from error


def _widget(schema: Mapping[str, Any]) -> Any:
    choices = schema.get("enum") or ([True, False] if schema.get("type") == "boolean" else None)
    if isinstance(choices, list):
        is_text = schema.get("type") == "string"
        shown = [(one if is_text else json.dumps(one), str(one) if is_text else json.dumps(one)) for one in choices]
        return UnfoldAdminSelectWidget(choices=[("", "-"), *shown])
    if schema.get("type") in ("object", "array"):
        return UnfoldAdminTextareaWidget(attrs={"rows": 3, "spellcheck": "false"})
    return UnfoldAdminTextInputWidget()


def why_not(user: User | AnonymousUser, tool: Tool) -> str:
    """Why this member of staff may not try the tool; empty if they may."""
    starts_a_process = tool.server is not None and tool.server.transport == Transport.STDIO
    if starts_a_process and not user.is_superuser:
        return "This tool's server is a process of this machine, which only superusers may start."
    if tool.gone_at:
        return "Its server no longer lists this tool."
    try:
        value_of(tool)
    except SecretUnreadable as error:
        return str(error)
    return ""


def try_out(tool: Tool, arguments: str) -> Tried:
    """Through the one road of every call. Cached answers count here, too."""
    began = perf_counter()
    output: ToolOutput = async_to_sync(invoke)(value_of(tool), arguments)
    return Tried(arguments, output, (perf_counter() - began) * 1000)
