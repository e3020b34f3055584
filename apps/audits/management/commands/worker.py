from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor

from apps.audits import celery_worker


class Command(BaseCommand):
    help = "Does the scheduled work: nightly audit, alerts, health of upstreams, purge. One Celery worker, with beat."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--concurrency", type=int, default=2, help="tasks at once; default %(default)s")
        parser.add_argument(
            "--no-beat", action="store_true", help="only work: another worker keeps the schedule (two do no harm)"
        )

    def handle(self, *_args: Any, **options: Any) -> None:
        _refuse_without_tables()
        try:
            celery_worker.refuse_without_broker()
        except celery_worker.NoBroker as error:
            raise CommandError(str(error)) from error
        connection.close()  # unsafe in the processes to come
        has_beat = not options["no_beat"]
        code = celery_worker.run(
            concurrency=max(1, options["concurrency"]), has_beat=has_beat, ready=lambda: self._announce(has_beat)
        )
        self.stdout.write("Worker stopped.")
        if code:
            raise CommandError("The worker ended with a failure; its log above says which.", returncode=code)

    def _announce(self, has_beat: bool) -> None:
        self.stdout.write(f"Agent Gateway's worker runs, with {celery_worker.broker_shown()} as broker.")
        if has_beat:
            where = settings.GATEWAY_PUBLIC_URL or f"http://127.0.0.1:{settings.GATEWAY_PORT}"
            self.stdout.write(f"  Schedule  {where}/admin/django_celery_beat/periodictask/")
        self.stdout.write("  Stop      Ctrl-C")
        self.stdout.flush()


def _refuse_without_tables() -> None:
    try:
        executor = MigrationExecutor(connection)
        pending = executor.migration_plan(executor.loader.graph.leaf_nodes())
    except DatabaseError as error:
        raise CommandError(f"The database cannot be used ({error}). Check DATABASE_URL.") from error
    if pending:
        raise CommandError(f"The database lacks {len(pending)} migrations. Run `manage.py bootstrap` first.")
