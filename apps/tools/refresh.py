"""Reading again what tools are made of: the signatures of functions."""

import threading
from dataclasses import dataclass

import structlog
from django.db import DatabaseError, connection

from apps.core.audit import Author, written_by
from apps.tools import local
from apps.tools.models import Kind, Tool

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Refreshed:
    """`problem` is a sentence; empty when the tool can be called."""

    name: str
    is_changed: bool
    problem: str = ""


def read_functions() -> list[Refreshed]:
    """Compare the schema of every function with the stored one, and store what differs.

    Modules that are imported stay as they are; what could not be imported is tried again.
    """
    return [_read(tool) for tool in Tool.objects.filter(kind=Kind.LOCAL)]


def _read(tool: Tool) -> Refreshed:
    try:
        function = local.find(tool.function, again=True)
    except local.FunctionUnusable as error:
        return Refreshed(tool.name, is_changed=False, problem=str(error))
    if tool.parameters == function.parameters:
        return Refreshed(tool.name, is_changed=False)
    tool.parameters = dict(function.parameters)
    tool.save(update_fields=["parameters"])
    return Refreshed(tool.name, is_changed=True)


def read_functions_beside() -> threading.Thread:
    """In a thread, when a server starts: the files may have changed while it was down, and an import takes its time."""
    thread = threading.Thread(target=_beside, name="tool-functions", daemon=True)
    thread.start()
    return thread


def _beside() -> None:
    try:
        with written_by(lambda: Author("gateway")):
            for one in read_functions():
                if one.problem:
                    log.error("tool_function_unusable", tool=one.name, reason=one.problem)
    except DatabaseError as error:  # the schema of yesterday serves until the next look
        log.error("tool_functions_not_read", error=str(error))
    finally:
        connection.close()
