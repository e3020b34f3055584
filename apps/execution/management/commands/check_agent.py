"""manage.py check_agent PATH: judge one folder before it is deployed. Needs no database, and touches none."""

import asyncio
import json
import sys
from argparse import ArgumentParser
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import connections

from apps.core.errors import GatewayError


class Command(BaseCommand):
    help = (
        "Load one agent folder (any path) and say what it exports and needs, or what is wrong, where, and how to mend "
        "it. Exit status 1 when it is not as it should be. What the module prints goes to standard error."
    )
    requires_system_checks: list[str] = []  # a CI job has no configured gateway

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("path", type=Path, help="the agent's folder, or its agent.py")
        parser.add_argument("--json", action="store_true", help="print JSON")
        parser.add_argument("--chat", metavar="TEXT", help="then say this to it, on the built-in demo, which is no LLM")
        parser.add_argument(
            "--dry-run", action="store_true", help="run the main() of a module that builds its agent there, to find it"
        )

    def handle(self, *_args: Any, **options: Any) -> None:
        from apps.catalog import inspection, presentation
        from apps.catalog.options import LoadOptions
        from apps.execution import sdk_runner

        sdk_runner.install()
        with (
            redirect_stdout(sys.stderr),
            inspection.inspected(options["path"], LoadOptions(dry_run=options["dry_run"])) as found,
        ):
            report = found.report
            if not options["json"]:
                self.stdout.write(presentation.report(report))
            if options["chat"] is not None and found.generation:
                answer = self.chat(found.generation, options["chat"], silent=options["json"])
                report["answer"] = answer
        if options["json"]:
            self.stdout.write(json.dumps(report, indent=2))
        if not report["ok"]:
            sys.exit(1)

    def chat(self, generation: Any, text: str, *, silent: bool) -> str:
        """Prints the answer while it comes unless `silent`. Raises CommandError."""
        from apps.execution import containment, trial

        _store_nothing()

        async def listen() -> str:
            containment.contain(asyncio.get_running_loop())
            parts = []
            async for part in trial.answer(generation, text):
                parts.append(part)
                if not silent:
                    self.stdout.write(part, ending="")
                    self.stdout.flush()
            return "".join(parts)

        try:
            answer = asyncio.run(listen())
        except GatewayError as error:
            raise CommandError(f"{generation.agent_id} did not answer: {error.message}") from error
        if not silent:
            self.stdout.write("")
        return answer


def _store_nothing() -> None:
    """An empty database in memory, whatever the environment names: a check leaves no trace in a gateway's own."""
    connections.close_all()
    connections.settings["default"] |= {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:", "OPTIONS": {}}
    del connections["default"]
