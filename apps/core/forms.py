"""Form fields that several apps' admins share."""

import re
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from unfold.widgets import UnfoldAdminTextareaWidget


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
