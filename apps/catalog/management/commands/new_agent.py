"""manage.py new_agent NAME: write a working agent to begin with."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from apps.catalog import blueprint


class Command(BaseCommand):
    help = "Write a small agent that works, as a folder to edit. Never overwrites. Needs no database."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", help="the folder's name, such as WeatherDesk")
        parser.add_argument("--namespace", default="", help="the first half of its id; default: default")
        parser.add_argument("--path", type=Path, help="the discovery folder; default: the first one")

    def handle(self, *_args: Any, **options: Any) -> None:
        try:
            agent_id, folder = blueprint.write(options["name"], namespace=options["namespace"], root=options["path"])
        except blueprint.NotWritten as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{folder / 'agent.py'} is the model {agent_id}.")
        self.stdout.write(f'Try it without a gateway:  manage.py check_agent {folder} --chat "Roll two dice"')
        if any(folder.is_relative_to(root) for root in settings.GATEWAY_AGENT_DISCOVERY_PATH):
            self.stdout.write(f"A running gateway lists it within two seconds; chat with it as {agent_id}.")
        else:
            self.stdout.write(f"No gateway looks there until GATEWAY_AGENT_DISCOVERY_PATH names {options['path']}.")
