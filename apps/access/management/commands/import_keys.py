from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.access.import_keys import WrongLines, import_keys


class Command(BaseCommand):
    help = "Makes keys of the SHA-256 digests in a file (CSV or JSON lines, docs/access.md), all of them or none."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path)
        parser.add_argument("--dry-run", action="store_true", help="say what would be made, and make nothing")

    def handle(self, *_args: Any, **options: Any) -> None:
        try:
            text = options["file"].read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise CommandError(f"The file cannot be read ({error}). It has to be a text in UTF-8.") from error
        try:
            imported = import_keys(text, dry_run=options["dry_run"])
        except WrongLines as wrong:
            raise CommandError(f"{wrong}\nNothing was imported. Mend these lines and try again.") from wrong
        for name in imported.skipped:
            self.stderr.write(f"Skipped “{name}”: a key with this digest is here already.")
        would = "would be made" if options["dry_run"] else "made"
        self.stdout.write(f"{len(imported.made)} {'key' if len(imported.made) == 1 else 'keys'} {would}.")
