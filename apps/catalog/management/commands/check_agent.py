"""manage.py check_agent PATH: judge one folder before it is deployed. Needs no database."""

import json
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand


class Command(BaseCommand):
    help = "Load one agent folder (any path) and say what it exports, or what is wrong, where, and how to mend it."
    requires_system_checks: list[str] = []  # a CI job has no configured gateway

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("path", type=Path, help="the agent's folder, or its agent.py")
        parser.add_argument("--json", action="store_true", help="print JSON")

    def handle(self, *_args: Any, **options: Any) -> None:
        from apps.catalog import inspection, presentation

        report = inspection.inspect_folder(options["path"])
        shown = json.dumps(report, indent=2) if options["json"] else presentation.report(report)
        self.stdout.write(shown)
        if not report["ok"]:
            sys.exit(1)
