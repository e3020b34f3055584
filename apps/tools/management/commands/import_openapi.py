from collections import Counter
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.tools import openapi
from apps.tools.openapi import NotImportable, Operation
from apps.tools.openapi_import import import_operations
from apps.tools.template import problem_with_url


class Command(BaseCommand):
    help = "Makes a tool of each operation of an OpenAPI document (3.0 or 3.1, JSON or YAML). docs/tools.md."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path)
        parser.add_argument("--prefix", default="", help="of the tools' names, such as crm_")
        parser.add_argument("--base-url", default="", help="where the API is; default: what the document says")
        parser.add_argument("--only", nargs="+", metavar="NAME", help="names of the tools to make; default: all")
        parser.add_argument("--update", action="store_true", help="make tools that are there anew from the document")
        parser.add_argument("--private-hosts", action="store_true", help="the API is in a private network")
        parser.add_argument("--dry-run", action="store_true", help="say what would be made, and make nothing")

    def handle(self, *_args: Any, **options: Any) -> None:
        done = import_operations(
            self._operations(options),
            update=options["update"],
            allow_private_hosts=options["private_hosts"],
            dry_run=options["dry_run"],
        )
        for one in done:
            self.stdout.write(f"{one.outcome:9}  {one.name}{f'  {one.reason}' if one.reason else ''}")
        counted = ", ".join(f"{number} {outcome}" for outcome, number in Counter(one.outcome for one in done).items())
        self.stdout.write(f"{counted}{'; nothing was stored' if options['dry_run'] else ''}.")

    def _operations(self, options: dict[str, Any]) -> list[Operation]:
        if options["base_url"] and problem_with_url(options["base_url"]):
            raise CommandError("A base URL looks like https://api.example.com/v1.")
        try:
            text = options["file"].read_text(encoding="utf-8")
            found = openapi.read(text, prefix=options["prefix"], base_url=options["base_url"])
        except (OSError, UnicodeDecodeError) as error:
            raise CommandError(f"The file cannot be read ({error}). It has to be a text in UTF-8.") from error
        except NotImportable as error:
            raise CommandError(str(error)) from error
        wanted = options["only"] or [one.name for one in found]
        if missing := set(wanted) - {one.name for one in found}:
            raise CommandError(f"The document has no operation that would be called {min(missing)}.")
        return [one for one in found if one.name in wanted]
