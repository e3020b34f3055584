"""manage.py list_agents: what the workers recorded last; executes no agent."""

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError


class Command(BaseCommand):
    help = "List the agents that the gateway knows, as it recorded them last; loads nothing."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="print JSON")

    def handle(self, *_args: Any, **options: Any) -> None:
        from apps.catalog import presentation

        try:
            rows = presentation.recorded()
        except DatabaseError as error:
            raise CommandError(f"The database cannot be read ({error}). Run `manage.py migrate` first.") from error
        if options["json"]:
            self.stdout.write(json.dumps(rows, indent=2))
        else:
            self.stdout.write(presentation.table(rows, ("id", "name", "state", "enabled", "export", "problem")))
