from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import OperationalError, ProgrammingError

from apps.config_files.sheets import FILES
from apps.config_files.writing import no_database, texts


class Command(BaseCommand):
    help = "Writes the whole configuration, without secrets, as YAML: four files in a folder, or one on the screen."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("folder", type=Path, nargs="?", help="is made when it is not there")
        parser.add_argument("--print", choices=FILES, help="write this file to the screen instead")
        parser.add_argument(
            "--with-digests", action="store_true", help="of keys too, so that another gateway can take them over"
        )

    def handle(self, *_args: Any, **options: Any) -> None:
        if bool(options["folder"]) == bool(options["print"]):
            raise CommandError("Name a folder to write to, or --print and a file: manage.py export_config config/")
        try:
            written = texts(with_digests=options["with_digests"])
        except (OperationalError, ProgrammingError) as error:
            raise CommandError(no_database(error)) from error
        if options["print"]:
            self.stdout.write(written[options["print"]], ending="")
            return
        folder: Path = options["folder"]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name, text in written.items():
                (folder / name).write_text(text, encoding="utf-8")
        except OSError as error:
            raise CommandError(f"{folder} cannot be written to ({error}). Name another folder.") from error
        self.stdout.write(f"Wrote {', '.join(written)} to {folder}.")
