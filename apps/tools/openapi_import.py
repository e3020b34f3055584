"""Operations of an OpenAPI document become tools."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from django.core.exceptions import ValidationError
from django.db import transaction

from apps.tools.models import Kind, Tool
from apps.tools.openapi import Operation


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of one operation: made, updated, unchanged, skipped or refused; `reason` is a sentence."""

    name: str
    outcome: str
    reason: str = ""


def import_operations(
    operations: Iterable[Operation],
    *,
    update: bool,
    secret_headers: Mapping[str, str] | None = None,
    allow_private_hosts: bool = False,
    dry_run: bool = False,
) -> list[Imported]:
    """A tool for each, or what it was made from anew where there is one of this name and `update` says so.

    Of a tool that is there, its secrets and how it may be used stay. Those that cannot be tools are refused one by one;
    the others are made.
    """
    with transaction.atomic():
        done = [_import(one, update, secret_headers or {}, allow_private_hosts) for one in operations]
        transaction.set_rollback(dry_run)
    return done


def _import(operation: Operation, update: bool, secret_headers: Mapping[str, str], allow_private: bool) -> Imported:
    if operation.problem:
        return Imported(operation.name, "refused", operation.problem)
    row = Tool.objects.filter(name=operation.name).first()
    if row is None:
        row = Tool(name=operation.name, is_idempotent=operation.method == "GET", allow_private_hosts=allow_private)
        row.secret_headers = dict(secret_headers)
        return _stored(row, operation, "made")
    if not update:
        return Imported(operation.name, "skipped", "A tool of this name is there.")
    if row.kind != Kind.HTTP:
        return Imported(operation.name, "refused", f"The tool of this name is no HTTP request but a {row.kind} one.")
    return _stored(row, operation, "updated")


def _stored(row: Tool, operation: Operation, outcome: str) -> Imported:
    wanted = {
        "kind": Kind.HTTP,
        "description": operation.description,
        "method": operation.method,
        "url": operation.url,
        "headers": dict(operation.headers),
        "body": operation.body,
        "parameters": dict(operation.parameters),
    }
    if outcome == "updated" and all(getattr(row, name) == value for name, value in wanted.items()):
        return Imported(row.name, "unchanged")
    for name, value in wanted.items():
        setattr(row, name, value)
    try:
        row.full_clean()
    except ValidationError as error:
        return Imported(row.name, "refused", " ".join(error.messages))
    row.save()
    return Imported(row.name, outcome)
