"""Facts of a failure, as lines to read."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from django.utils.html import format_html, format_html_join


def facts_shown(facts: Mapping[str, Any]) -> str | None:
    """None where none says anything."""
    told = {name: value for name, value in facts.items() if value not in ("", None)}
    lines: Iterable[tuple[str, str]] = ((name.replace("_", " "), _told(value)) for name, value in told.items())
    shown = format_html_join("", '<dt class="font-semibold">{}</dt><dd class="mb-2 break-all">{}</dd>', lines)
    return format_html("<dl>{}</dl>", shown) if told else None


def _told(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
