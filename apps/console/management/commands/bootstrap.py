from typing import Any

from django.core.management.base import BaseCommand, CommandError

from apps.console.bootstrap import BootstrapFailed, bootstrap
from apps.console.terminal import first_start_lines


class Command(BaseCommand):
    help = "Migrates, creates the admin user and the first API key, and finds LLM servers, where they are missing."
    requires_system_checks = []

    def handle(self, *_args: Any, **_options: Any) -> None:
        try:
            lines = list(first_start_lines(bootstrap()))
        except BootstrapFailed as error:
            raise CommandError(str(error)) from error
        self.stdout.write("\n".join(["First start:", *lines] if lines else ["Nothing to do: this is set up."]))
