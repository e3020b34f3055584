import json
from difflib import unified_diff
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import OperationalError, ProgrammingError

from apps.config_files.applying import Applied, Change, apply
from apps.config_files.reading import WrongFiles, documents
from apps.config_files.writing import no_database

_SHORT = 80  # characters
_SIGNS = {"added": "+", "changed": "~", "removed": "-"}


class Command(BaseCommand):
    help = "Makes the configuration what YAML files say (docs/config-files.md): all of it, or nothing."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("paths", type=Path, nargs="+", metavar="PATH", help="files, or a folder with them")
        parser.add_argument("--dry-run", action="store_true", help="show what would change, and change nothing")
        parser.add_argument("--prune", action="store_true", help="remove what the sections of the files do not mention")

    def handle(self, *_args: Any, **options: Any) -> None:
        try:
            applied = apply(documents(options["paths"]), prune=options["prune"], dry_run=options["dry_run"])
        except WrongFiles as wrong:
            raise CommandError(f"{wrong}\nNothing was changed. Mend this and try again.") from wrong
        except (OperationalError, ProgrammingError) as error:
            raise CommandError(no_database(error)) from error
        for change in applied.changes:
            self.stdout.write(_told(change))
        for remark in applied.remarks:
            self.stderr.write(remark)
        self.stdout.write(_summary(applied, dry_run=options["dry_run"]))


def _told(change: Change) -> str:
    lines = [f"{_SIGNS[change.kind]} {change.section}: {change.name}"]
    if change.kind == "changed":
        for name, before, after in change.members:
            lines += _difference(name, _text(before), _text(after))
    return "\n".join(lines)


def _difference(name: str, before: str, after: str) -> list[str]:
    """Short ones in a line, others line by line."""
    if max(len(before), len(after)) <= _SHORT and "\n" not in before + after:
        return [f"    {name}: {before or '(empty)'} → {after or '(empty)'}"]
    lines = unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=1)
    return [f"    {name}:", *(f"        {line}" for line in list(lines)[2:])]


def _text(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    short = json.dumps(value, ensure_ascii=False)
    return short if len(short) <= _SHORT else json.dumps(value, ensure_ascii=False, indent=2)


def _summary(applied: Applied, *, dry_run: bool) -> str:
    if not applied.changes:
        return "Nothing to change: the configuration is as the files say."
    counts = {kind: sum(one.kind == kind for one in applied.changes) for kind in _SIGNS}
    told = ", ".join(f"{number} {kind}" for kind, number in counts.items() if number)
    return f"Would change, without --dry-run: {told}." if dry_run else f"Done: {told}."
