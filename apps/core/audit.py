"""Who changed what of the configuration, when, and what it was before: kept by django-auditlog for models that ask.

    @audited(without=["created_at"])
    class Team(ConfigModel): ...

What QuerySet.update() and bulk_create() write leaves no trace: verbs that change configuration save row by row.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

import structlog
from auditlog.models import LogEntry
from auditlog.registry import auditlog
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import DateTimeField, Model
from django.db.models.signals import post_save, pre_save
from django.dispatch import receiver

log = structlog.get_logger(__name__)

M = TypeVar("M", bound=type[Model])

_MASK = "•••"
_EMPTY: tuple[Any, ...] = (None, "", [])


def audited(*, without: Iterable[str] = (), secret: Iterable[str] = ()) -> Callable[[M], M]:
    """Keep the history of a model's rows: all fields but those `without`; of a `secret` only whether there is one."""

    def register(model: M) -> M:
        left_out = {model._meta.pk.name, *without}  # noqa: SLF001  # Django documents it
        fields = [field.name for field in model._meta.concrete_fields if field.name not in left_out]  # noqa: SLF001
        auditlog.register(
            model, include_fields=fields, mask_fields=list(secret), mask_callable="apps.core.audit.masked"
        )
        return model

    return register


def masked(value: str) -> str:
    """What the history shows of a secret."""
    return "" if value in ("", "None") else _MASK


# --- who changes it --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Author:
    """A member of staff, an API key, or whoever runs a command. `address` is where they call from."""

    name: str
    user: User | None = None
    key_id: int | None = None
    address: str = ""


_COMMAND = Author("command")
_author: ContextVar[Callable[[], Author]] = ContextVar("author", default=lambda: _COMMAND)


@contextmanager
def written_by(author: Callable[[], Author]) -> Iterator[None]:
    """Changes within are by this author, who is asked for only when there are any."""
    token = _author.set(author)
    try:
        yield
    finally:
        _author.reset(token)


def author() -> Author:
    """Who makes the changes that are made here."""
    return _author.get()()


@receiver(pre_save, sender=LogEntry)
def _sign(instance: LogEntry, **_: Any) -> None:
    """Instead of auditlog's own middleware, which believes any X-Forwarded-For and knows no API keys."""
    by = author()
    instance.actor = by.user
    signature = {"author": by.name, "key_id": by.key_id, "address": by.address}
    instance.additional_data = {name: value for name, value in signature.items() if value}


@receiver(post_save, sender=LogEntry)
def _tell(instance: LogEntry, created: bool, **_: Any) -> None:
    """One line for each row that was written, once that is certain: the names of its fields, no values."""
    if created and instance.action in _ACTIONS:
        transaction.on_commit(partial(_log, instance))


_ACTIONS = {LogEntry.Action.CREATE: "create", LogEntry.Action.UPDATE: "update", LogEntry.Action.DELETE: "delete"}


def _log(entry: LogEntry) -> None:
    """A command writes to its own terminal, where whoever ran it knows."""
    log.log(
        logging.DEBUG if entry.additional_data.get("author") == _COMMAND.name else logging.INFO,
        "configuration_written",
        table=f"{entry.content_type.app_label}.{entry.content_type.model}",
        row=entry.object_pk,
        action=_ACTIONS[entry.action],
        fields=sorted(entry.changes_dict) if entry.action == LogEntry.Action.UPDATE else [],
        **entry.additional_data,
    )


# --- reading it ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Change:
    """Of one field. Values are JSON's; times are ISO 8601 in UTC."""

    field: str
    old: Any
    new: Any


def changes(entry: LogEntry) -> list[Change]:
    """What an entry says, in the order of the fields' names. A field that was and stays empty is no change."""
    return [
        Change(field, _told(entry, field, old), _told(entry, field, new))
        for field, (old, new) in sorted(entry.changes_dict.items())
        if not (old in _EMPTY and new in _EMPTY)
    ]


def _told(entry: LogEntry, field: str, value: Any) -> Any:
    """auditlog stores times as text, in UTC and without saying so."""
    model = entry.content_type.model_class()
    fields = {one.name: one for one in model._meta.concrete_fields} if model else {}  # noqa: SLF001
    if isinstance(value, str) and isinstance(fields.get(field), DateTimeField):
        return datetime.fromisoformat(value).replace(tzinfo=UTC).isoformat().replace("+00:00", "Z")
    return value
