"""A PostgreSQL database for one test."""

import os
import uuid

import psycopg
import pytest

POSTGRES = "postgresql://postgres@127.0.0.1:5432/"


class scratch_database:  # noqa: N801  # a context manager
    """A PostgreSQL database of its own. Skips the test where no server lets us in."""

    def __enter__(self) -> str:
        given = os.environ.get("DATABASE_URL", "")
        server = (given if given.startswith("postgres") else POSTGRES).rpartition("/")[0]
        self._name = f"gateway_tests_{uuid.uuid4().hex[:12]}"
        try:
            self._admin = psycopg.connect(f"{server}/postgres", autocommit=True, connect_timeout=3)
            self._admin.execute(f"CREATE DATABASE {self._name}")  # type: ignore[arg-type]
        except psycopg.Error as error:
            pytest.skip(f"no PostgreSQL server to test with: {error}")
        return f"{server}/{self._name}"

    def __exit__(self, *_: object) -> None:
        self._admin.execute(f"DROP DATABASE {self._name} WITH (FORCE)")  # type: ignore[arg-type]
        self._admin.close()
