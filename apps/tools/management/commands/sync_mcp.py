"""manage.py sync_mcp: reads the tools of MCP servers, and the adapters of Microsoft's mcp-gateway."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from apps.core.errors import NotFound


class Command(BaseCommand):
    help = "Read the tools of all enabled MCP servers, or of one; of an mcp-gateway also its adapters."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", nargs="?", help="of one server")

    def handle(self, *_args: Any, **options: Any) -> None:
        from apps.tools.mcp.listing import refresh

        try:
            done = refresh(options["name"])
        except NotFound as error:
            raise CommandError(error.message) from error
        for one in done:
            self.stdout.write(f"{one.server}: {one.error or _changes(one)}")
        if failed := sum(1 for one in done if one.error):
            raise CommandError(f"{failed} of {len(done)} could not be read.")


def _changes(one: Any) -> str:
    told = [f"{word} {', '.join(names)}" for word in ("added", "gone", "changed") if (names := getattr(one, word))]
    return "; ".join(told) or "nothing has changed"
