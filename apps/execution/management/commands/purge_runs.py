"""Deletes what is kept of runs for longer than it should be, as server processes do by themselves."""

from argparse import ArgumentParser
from typing import Any, Final

from django.core.management.base import BaseCommand

from apps.execution.purging import AT_ONCE, Purged, purge

_EVERY: Final = 20  # transactions


class Command(BaseCommand):
    help = (
        "Deletes runs and steps that are older than the recording settings keep them, sums older than 400 days, and "
        "approvals and open turns that have expired. May run beside the gateway, and as often as you like."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="Only say how many rows it would delete.")

    def handle(self, *_args: Any, **options: Any) -> None:
        is_dry = options["dry_run"]
        self._told = 0
        purged = purge(dry_run=is_dry, progress=self._tell)
        self.stdout.write(f"{'Would delete' if is_dry else 'Deleted'} {_in_words(purged)}.")

    def _tell(self, purged: Purged) -> None:
        if purged.rows - self._told >= _EVERY * AT_ONCE:
            self._told = purged.rows
            self.stdout.write(f"... {purged.rows:,} rows so far")


def _in_words(purged: Purged) -> str:
    return (
        f"{purged.runs:,} runs, {purged.steps:,} steps, {purged.buckets:,} sums of ten minutes, "
        f"{purged.approvals:,} approvals and {purged.open_turns:,} open turns"
    )
