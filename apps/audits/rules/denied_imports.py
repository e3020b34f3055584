from collections.abc import Iterator
from pathlib import Path

from django.urls import reverse

from apps.audits.rule import Found, NotChecked, Rule, Severity
from apps.catalog.loader import denied_in_folder
from apps.catalog.models import DropIn, State
from apps.catalog.modules import load_policy


def _check() -> Iterator[Found]:
    """In the files as they lie there, whether they serve or not."""
    patterns = load_policy().denied_imports
    if not patterns:
        raise NotChecked("No imports are denied. Name some under Module rules, Lock and imports, such as subprocess.")
    rows = DropIn.objects.exclude(state=State.GONE).exclude(folder="").order_by("folder_id", "agent_id")
    for row in rows:
        for denied in denied_in_folder(Path(row.folder), patterns):
            yield Found(
                f"{row.agent_id}: {Path(denied.file).name}",
                f"{denied.file}:{denied.line} imports {denied.name}, which {denied.pattern} denies.",
                link=reverse("admin:catalog_dropin_change", args=[row.pk]),
            )


RULE = Rule(
    "denied-imports",
    "Drop-ins that import what is denied",
    Severity.HIGH,
    "Let the module do without it, or lend it a tool of the gateway in its place.",
    _check,
)
