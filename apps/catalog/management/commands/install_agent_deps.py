"""manage.py install_agent_deps [AGENT] [--dry-run]: install what drop-ins name in their requirements.txt."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from apps.catalog import requirements, scan
from apps.catalog.requirements import NotInstallable


class Command(BaseCommand):
    help = (
        "Install the requirements.txt of one agent, or of all, into the gateway's environment. Refuses what would "
        "change the gateway's own packages. Needs no database."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("agent", nargs="?", default="", help="id, folder name or path of one agent; default: all")
        parser.add_argument("--dry-run", action="store_true", help="say what would be installed, and install nothing")

    def handle(self, *_args: Any, **options: Any) -> None:
        files = [folder / requirements.FILE_NAME for folder in _folders(options["agent"])]
        files = [file for file in files if file.is_file()]
        if not files:
            self.stdout.write(_nothing_named(options["agent"]))
            return
        try:
            changes = requirements.plan(files)
            self.stdout.write(_told(files, [str(one) for one in changes], is_dry=options["dry_run"]))
            if not options["dry_run"]:
                requirements.install(files)
        except NotInstallable as error:
            raise CommandError(f"{error} Nothing was installed.") from error
        if not options["dry_run"]:
            self.stdout.write("Done. Running gateways now try the agents again that did not load.")


def _folders(agent: str) -> list[Path]:
    """Raises CommandError for a name that is no agent's."""
    if agent and Path(agent).is_dir():
        return [Path(agent).absolute()]
    found = scan.scan(
        settings.GATEWAY_AGENT_DISCOVERY_PATH,
        settings.GATEWAY_AGENT_DISCOVERY_ALLOWLIST,
        settings.GATEWAY_AGENT_DISCOVERY_DENYLIST,
    ).folders
    named = [one.path for one in found if agent.casefold() in ("", one.agent_id, one.path.name.casefold())]
    if agent and len(named) != 1:
        ids = ", ".join(one.agent_id for one in found if one.path in named) or "none"
        raise CommandError(f"“{agent}” should name one agent, by its id, folder or path; it names {ids}.")
    return named


def _nothing_named(agent: str) -> str:
    if not agent:
        return f"No agent has a {requirements.FILE_NAME}; there is nothing to install."
    raise CommandError(
        f"“{agent}” has no {requirements.FILE_NAME}. Write one beside its {scan.AGENT_FILE}, one package a line."
    )


def _told(files: list[Path], changes: list[str], *, is_dry: bool) -> str:
    asked = "\n".join(f"  {file}" for file in files)
    if not changes:
        return f"Everything is installed that these files ask for:\n{asked}"
    plan = "\n".join(f"  {one}" for one in changes)
    return f"{'Would install' if is_dry else 'Installing'}:\n{plan}\nfor:\n{asked}"
