"""Reads the models of the upstreams now, as server processes do by themselves."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from apps.upstreams.models import Upstream
from apps.upstreams.refreshing import Outcome, refresh


class Command(BaseCommand):
    help = "Asks every enabled upstream for its models and stores them. Fails when one of them does not answer."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "names", nargs="*", metavar="name", help="Only these, enabled or not. Default: all enabled."
        )

    def handle(self, *_args: Any, **options: Any) -> None:
        outcomes = refresh(_chosen(options["names"]))
        for outcome in outcomes:
            self.stdout.write(_line(outcome))
        failed = sum(1 for outcome in outcomes if outcome.error)
        if failed:
            raise CommandError(f"{failed} of {len(outcomes)} could not be read.")
        if not outcomes:
            self.stdout.write("No upstream is enabled.")


def _chosen(names: list[str]) -> list[Upstream]:
    """Raises CommandError."""
    if not names:
        return list(Upstream.objects.filter(enabled=True))
    found = {upstream.slug: upstream for upstream in Upstream.objects.filter(slug__in=names)}
    if unknown := [name for name in names if name not in found]:
        known = ", ".join(Upstream.objects.values_list("slug", flat=True)) or "none"
        raise CommandError(f"There is no upstream {', '.join(unknown)}. There are: {known}.")
    return list(found.values())


def _line(outcome: Outcome) -> str:
    name = outcome.upstream.slug
    if outcome.error:
        return f"{name}: {outcome.error.message}"
    count = len(outcome.models)
    return f"{name}: {count} {'model' if count == 1 else 'models'}"
