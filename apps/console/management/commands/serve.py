from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError

from apps.access.checks import lacks_shared_store
from apps.console.bootstrap import BootstrapFailed, FirstStart, bootstrap
from apps.console.serving import CannotServe, bind, serve
from apps.console.terminal import first_start_lines, serving_lines
from apps.core.database import explain_database, pending_migrations


class Command(BaseCommand):
    help = "Serves the gateway with uvicorn."
    requires_system_checks = []  # `make check` runs them; here they would only slow down the start

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--host", default=settings.GATEWAY_HOST, help="address to listen on; default %(default)s")
        parser.add_argument(
            "--port", type=int, default=settings.GATEWAY_PORT, help="default %(default)s; 0: any free one"
        )
        parser.add_argument(
            "--bootstrap", action="store_true", help="set up what is missing first, as `bootstrap` does"
        )

    def handle(self, *_args: Any, **options: Any) -> None:
        host = options["host"]
        if refusal := lacks_shared_store():
            raise CommandError(refusal)
        try:
            sock = bind(host, options["port"])
            done = self._prepare(set_up=options["bootstrap"])
            port = sock.getsockname()[1]
            serve(sock, workers=settings.GATEWAY_WORKERS, ready=lambda: self._print(*serving_lines(port, host, done)))
        except (BootstrapFailed, CannotServe) as error:
            raise CommandError(str(error)) from error
        except KeyboardInterrupt:  # which the event loop may also have taken for itself: then serve() has returned
            pass
        self._print("Stopped.")

    def _prepare(self, *, set_up: bool) -> FirstStart | None:
        if set_up:
            done = bootstrap()
            lines = list(first_start_lines(done))
            self._print(*(["First start:", *lines, ""] if lines else []))
            return done
        try:
            pending = pending_migrations()
        except DatabaseError as error:
            raise BootstrapFailed(explain_database(error)) from error
        if pending:
            raise CommandError(
                f"The database lacks {pending} migrations. Run `manage.py bootstrap`, or serve --bootstrap."
            )
        return None

    def _print(self, *lines: str) -> None:
        if lines:
            self.stdout.write("\n".join(lines))
            self.stdout.flush()
