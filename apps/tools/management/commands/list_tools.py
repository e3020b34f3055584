import json
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from apps.tools.models import Tool
from apps.tools.presentation import state_of


class Command(BaseCommand):
    help = "Lists the gateway's tools, with whether each can be called."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="one JSON object a line, with the schema")

    def handle(self, *_args: Any, **options: Any) -> None:
        rows = [(tool, state_of(tool)) for tool in Tool.objects.select_related("server")]
        if options["json"]:
            for tool, state in rows:
                facts = {"name": tool.name, "kind": tool.kind, "source": tool.source(), "state": state.code}
                self.stdout.write(json.dumps({**facts, "remedy": state.remedy, "parameters": tool.parameters}))
            return
        if not rows:
            self.stdout.write("There are no tools yet. Add one in the admin under Tools, or run import_openapi.")
        width = max((len(tool.name) for tool, _ in rows), default=0)
        for tool, state in rows:
            remedy = f"  {state.remedy}" if state.remedy else ""
            self.stdout.write(f"{tool.name:{width}}  {tool.kind:5}  {state.words}{remedy}  ({tool.source()})")
