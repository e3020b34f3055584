"""Whether the database can be worked with, and what to tell whoever finds that it cannot."""

from django.conf import settings
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor


class CannotBeUsed(Exception):
    """The message is one sentence and a remedy."""


def pending_migrations() -> int:
    """How many migrations the database lacks. Raises DatabaseError."""
    executor = MigrationExecutor(connection)
    return len(executor.migration_plan(executor.loader.graph.leaf_nodes()))


def refuse_unusable() -> None:
    """Raises CannotBeUsed: there is no database, or it lacks tables."""
    try:
        pending = pending_migrations()
    except DatabaseError as error:
        raise CannotBeUsed(explain_database(error)) from error
    if pending:
        raise CannotBeUsed(f"The database lacks {pending} migrations. Run `manage.py bootstrap` first.")


def explain_database(error: DatabaseError) -> str:
    """One sentence and a remedy for a database that cannot be used."""
    database = settings.DATABASES["default"]
    reason = " ".join(str(error).split())
    if "sqlite3" in database["ENGINE"]:
        return (
            f"The database {database['NAME']} cannot be used ({reason}). Is its folder writable for this user, and is "
            f"there room on the disk? GATEWAY_DATA_DIR names another folder."
        )
    place = f"{database.get('HOST') or 'localhost'}:{database.get('PORT') or 5432}"
    return (
        f"The database at {place} cannot be used ({reason}). Is it started, and does DATABASE_URL hold the right "
        f"user, password and database?"
    )
