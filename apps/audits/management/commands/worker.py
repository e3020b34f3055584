import socket
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connection

from apps.audits import celery_worker
from apps.audits.workers import is_heard_of
from apps.core import database


class Command(BaseCommand):
    help = "Does the scheduled work: nightly audit, alerts, health of upstreams, purge. One Celery worker, with beat."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--concurrency", type=int, default=2, help="tasks at once; default %(default)s")
        parser.add_argument(
            "--no-beat", action="store_true", help="only work: another worker keeps the schedule (two do no harm)"
        )
        parser.add_argument(
            "--health", action="store_true",
            help="does no work: exit status 0 when this host's worker was heard of lately and its broker answers",
        )  # fmt: skip

    def handle(self, *_args: Any, **options: Any) -> None:
        try:
            database.refuse_unusable()
            celery_worker.refuse_without_broker()
        except (database.CannotBeUsed, celery_worker.NoBroker) as error:
            raise CommandError(str(error)) from error
        if options["health"]:
            self._tell_health()
            return
        connection.close()  # unsafe in the processes to come
        has_beat = not options["no_beat"]
        code = celery_worker.run(
            concurrency=max(1, options["concurrency"]), has_beat=has_beat, ready=lambda: self._announce(has_beat)
        )
        self.stdout.write("Worker stopped.")
        if code:
            raise CommandError("The worker ended with a failure; its log above says which.", returncode=code)

    def _tell_health(self) -> None:
        host = socket.gethostname()
        if not is_heard_of(host):
            raise CommandError(f"No worker of {host} was heard of lately. Start one: manage.py worker.")
        self.stdout.write(f"The worker of {host} is well.")

    def _announce(self, has_beat: bool) -> None:
        self.stdout.write(f"Agent Gateway's worker runs, with {celery_worker.broker_shown()} as broker.")
        if has_beat:
            where = settings.GATEWAY_PUBLIC_URL or f"http://127.0.0.1:{settings.GATEWAY_PORT}"
            self.stdout.write(f"  Schedules  {where}/admin/django_celery_beat/periodictask/")
        self.stdout.write("  Stop       Ctrl-C")
        self.stdout.flush()
