from collections.abc import Iterator
from pathlib import Path

from django.urls import reverse

from apps.audits.rule import Found, Rule, Severity
from apps.catalog.models import DropIn, State
from apps.catalog.requirements import FILE_NAME, Line, NotInstallable, lines


def _check() -> Iterator[Found]:
    folders = DropIn.objects.exclude(state=State.GONE).exclude(folder="").order_by("folder", "agent_id")
    rows = {row.folder: row for row in folders}  # one of those that a folder publishes
    for folder, row in rows.items():
        file = Path(folder) / FILE_NAME
        if not file.is_file():
            continue
        link = reverse("admin:catalog_dropin_change", args=[row.pk])
        try:
            loose = [line for line in lines(file) if not _is_pinned(line)]
        except NotInstallable as error:
            yield Found(f"{row.folder_id}: {FILE_NAME} unreadable", str(error), link=link)
            continue
        for line in loose:
            yield Found(f"{row.folder_id}: {line.name}", f"{line} may be another version tomorrow.", link=link)


def _is_pinned(line: Line) -> bool:
    return any(one.operator in ("==", "===") and "*" not in one.version for one in line.requirement.specifier)


RULE = Rule(
    "unpinned-requirements",
    "Requirements of drop-ins that name no version",
    Severity.LOW,
    "Name the version that the module was tried with: requests==2.32.3 in place of requests>=2.",
    _check,
)
