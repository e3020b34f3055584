"""`manage.py worker` in a process of its own, and its database to look into."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.harness.gateway import gateway_environment
from tests.harness.processes import ServerProcess


class CeleryWorker(ServerProcess):
    announcement = "worker runs, with "

    def __init__(self, folder: Path, *arguments: str, **settings: str) -> None:
        self.folder = folder
        # Nobody is asked for vulnerabilities: where nothing listens, that rule is not checked.
        known = {"GATEWAY_LOG_LEVEL": "DEBUG", "GATEWAY_VULNERABILITY_URL": "http://127.0.0.1:9", **settings}
        environment = gateway_environment(folder, **known)
        super().__init__(["manage.py", "worker", *arguments], environment)

    def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        return sql_of(self.folder, sql, *values)


def sql_of(folder: Path, sql: str, *values: Any) -> list[tuple[Any, ...]]:
    # Closed, not left to the collector: its journal would go away while the folder is copied.
    with closing(sqlite3.connect(folder / "gateway.sqlite3", timeout=20)) as database, database:
        return database.execute(sql, values).fetchall()
