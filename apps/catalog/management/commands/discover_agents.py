"""manage.py discover_agents: scan the discovery folders, load what is there, record it, and show it."""

import json
import sys
from argparse import ArgumentParser
from contextlib import redirect_stdout
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError


class Command(BaseCommand):
    help = "Scan the discovery folders, load every agent, record the result and print it."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="print JSON")

    def handle(self, *_args: Any, **options: Any) -> None:
        from apps.catalog import presentation, registry

        with redirect_stdout(sys.stderr):  # what modules print is not this command's output
            registry.refresh()
        try:
            rows = presentation.discovered()
        except DatabaseError as error:
            raise CommandError(f"The database cannot be read ({error}). Run `manage.py migrate` first.") from error
        if options["json"]:
            self.stdout.write(json.dumps(rows, indent=2))
        else:
            self.stdout.write(presentation.table(rows, ("id", "state", "export", "problem")))
