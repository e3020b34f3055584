from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.audits import claims
from apps.audits.works import WORKS, do
from apps.core import database


class Command(BaseCommand):
    help = "Does scheduled work now, as a Celery worker would: for cron, where none runs. Without names: lists it."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("names", nargs="*", metavar="name", choices=[*WORKS, []], help=", ".join(WORKS))

    def handle(self, *_args: Any, **options: Any) -> None:
        if not options["names"]:
            for work in WORKS.values():
                self.stdout.write(f"{work.name:<10} {work.title}")
            return
        try:
            database.refuse_unusable()
        except database.CannotBeUsed as error:
            raise CommandError(str(error)) from error
        failed = [name for name in options["names"] if not self._did(name)]
        if failed:
            raise CommandError(f"Failed: {', '.join(failed)}.")

    def _did(self, name: str) -> bool:
        try:
            self.stdout.write(f"{name}: {do(name)}")
        except claims.Taken:
            self.stdout.write(f"{name}: left out, another process does it or has just done so.")
        except Exception as error:  # noqa: BLE001  # the others are to be done all the same
            self.stderr.write(f"{name}: {type(error).__name__}: {error}")
            return False
        return True
