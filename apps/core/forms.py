"""Form fields, widgets and links that several apps' admins share."""

# mypy: disable-error-code="misc"
# django-unfold ships no types: its classes are Any to mypy.

import re
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe
from unfold.widgets import UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget


class LinesField(forms.Field):
    """A JSON list of short texts, edited as one text per line."""

    def __init__(self, *, pattern: re.Pattern[str], wrong: str, **kwargs: Any) -> None:
        kwargs.setdefault("widget", UnfoldAdminTextareaWidget(attrs={"rows": 4, "spellcheck": "false"}))
        super().__init__(**kwargs)
        self._pattern = pattern
        self._wrong = wrong

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(map(str, value)) if isinstance(value, list) else value

    def to_python(self, value: Any) -> list[str]:
        text = value if isinstance(value, str) else "\n".join(value or [])
        return list(dict.fromkeys(line.strip() for line in text.splitlines() if line.strip()))

    def validate(self, value: list[str]) -> None:
        super().validate(value)
        if wrong := [line for line in value if not self._pattern.fullmatch(line)]:
            raise ValidationError([f"“{line}” {self._wrong}" for line in wrong])

    def has_changed(self, initial: Any, data: Any) -> bool:
        return self.to_python(initial) != self.to_python(data)


class SuggestingInput(UnfoldAdminTextInputWidget):
    """A free text with suggestions under it."""

    suggestions: tuple[str, ...] = ()

    def render(self, name: str, value: Any, attrs: dict[str, Any] | None = None, renderer: Any = None) -> SafeString:
        list_id = f"{name}-suggestions"
        field = super().render(name, value, {**(attrs or {}), "list": list_id, "autocomplete": "off"}, renderer)
        options = format_html_join("", '<option value="{}"></option>', ((text,) for text in self.suggestions))
        return format_html('{}<datalist id="{}">{}</datalist>', mark_safe(field), list_id, options)  # noqa: S308  # a widget


def link_to(url: str, text: object) -> SafeString:
    """A link that looks like one, also in lists, where the theme would not show it."""
    return format_html('<a href="{}" class="text-primary-600 dark:text-primary-500">{}</a>', url, text)
