from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError

from apps.access.keys import issue_key
from apps.core import clock
from apps.core.globs import AGENT_GLOB


class Command(BaseCommand):
    help = "Issues an API key and prints it, once."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", help="who or what uses the key, such as “Open WebUI”")
        parser.add_argument("--admin", action="store_true", help="may use the operators' API")
        parser.add_argument("--no-chat", action="store_true", help="may not chat")
        parser.add_argument(
            "--agents", nargs="+", default=["*"], metavar="GLOB", help="agent ids it may use; default *"
        )
        parser.add_argument("--expires-days", type=float, metavar="N", help="ends in N days; default never")

    def handle(self, *_args: Any, **options: Any) -> None:
        name, days = options["name"].strip(), options["expires_days"]
        if not 0 < len(name) <= 100:
            raise CommandError("A key needs a name of at most 100 characters: who or what uses it.")
        if options["no_chat"] and not options["admin"]:
            raise CommandError("This key could do nothing: add --admin, or leave --no-chat out.")
        if days is not None and not 0 < days <= 36_500:
            raise CommandError("--expires-days takes the days until its end, such as 90.")
        if wrong := [glob for glob in options["agents"] if not AGENT_GLOB.fullmatch(glob)]:
            raise CommandError(f"“{wrong[0]}” is no glob over agent ids, such as default/* or *planner*.")
        try:
            _, credential = issue_key(
                name,
                may_chat=not options["no_chat"],
                may_administer=options["admin"],
                agents=options["agents"],
                expires_at=clock.now() + timedelta(days=days) if days is not None else None,
            )
        except DatabaseError as error:
            raise CommandError(f"The key cannot be stored ({error}). Run `manage.py bootstrap` first.") from error
        self.stderr.write(f"Key “{name}”, shown this once:")
        self.stdout.write(credential)
