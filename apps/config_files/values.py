"""A field's value ↔ what stands in a file: plain YAML that a person would write."""

import json
import math
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.core.exceptions import ValidationError
from django.db.models import (
    BooleanField,
    CharField,
    DateTimeField,
    DecimalField,
    ForeignKey,
    IntegerField,
    JSONField,
    Model,
    TextField,
)
from django.utils.dateparse import parse_datetime
from django.utils.timezone import is_naive, make_aware

from apps.config_files import schedules, sheets

_EMPTY = "is empty; leave it out for its default"


class WrongValue(ValueError):
    """What is wrong with a value, as the end of a sentence that names its place."""


def of(column: Any, row: Model) -> Any:
    """The field's value in a row that may not be filled yet."""
    return None if getattr(row, column.attname) is None else getattr(row, column.name)


def written(column: Any, row: Model) -> Any:
    """As it stands in a file."""
    value = of(column, row)
    if isinstance(value, Model):
        return sheets.name_of(value)
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    return value


def read(column: Any, value: Any) -> Any:
    """The field's value. Raises WrongValue."""
    if isinstance(column, ForeignKey):
        return _referred(column, value)
    if value is None and column.null:
        return None
    if isinstance(column, JSONField):
        return _json(column, value)
    if isinstance(column, DecimalField) and isinstance(value, int | float) and not isinstance(value, bool):
        value = Decimal(str(value))
    if isinstance(column, DateTimeField):
        return _instant(value)
    return _plain(column, value)


def default(column: Any) -> Any:
    """Of a member that a file does not have."""
    if isinstance(column, ForeignKey):
        return None
    return column.get_default()


def same(column: Any, one: Any, another: Any) -> bool:
    if isinstance(column, ForeignKey):
        if one == another:
            return True
        # Beat's tables may hold a moment twice.
        return (
            schedules.is_one(one) and schedules.is_one(another) and schedules.name_of(one) == schedules.name_of(another)
        )
    if isinstance(column, JSONField):
        return bool(one == another)
    return bool(column.get_prep_value(one) == column.get_prep_value(another))


def _referred(column: Any, value: Any) -> Model | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise WrongValue(f"is the name of a {column.related_model._meta.verbose_name}, not {value!r}")  # noqa: SLF001
    try:
        return sheets.find(column.related_model, value)
    except sheets.NoSuchRow as error:
        raise WrongValue(f"cannot be set: {error}") from error


def _json(column: Any, value: Any) -> Any:
    """What both databases take: PostgreSQL wants no NUL and no half characters, SQLite no infinity."""
    if value is None:
        raise WrongValue(_EMPTY)
    empty = None if column.null else column.get_default()
    if isinstance(empty, list) and not (isinstance(value, list) and all(isinstance(one, str) for one in value)):
        raise WrongValue(f"is a list of texts, such as [one, two], not {value!r}")
    if isinstance(empty, dict) and not isinstance(value, dict):
        raise WrongValue(f"is a mapping of names to values, not {value!r}")
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False)
        text.encode()
    except ValueError as error:
        raise WrongValue("holds what JSON has not: NaN, infinity, or half a character") from error
    if "\\u0000" in text:
        raise WrongValue("holds a NUL character, which cannot be stored")
    return value


def _instant(value: Any) -> datetime:
    try:
        instant = parse_datetime(value) if isinstance(value, str) else None
    except ValueError:
        instant = None
    if instant is None:
        raise WrongValue("is no instant; write it as 2026-12-31T00:00:00Z")
    return make_aware(instant) if is_naive(instant) else instant


def _plain(column: Any, value: Any) -> Any:
    if isinstance(value, dict | list):
        raise WrongValue("is one value, not a list or a mapping")
    if value is None:
        raise WrongValue(_EMPTY)
    if isinstance(column, BooleanField):
        if not isinstance(value, bool):
            raise WrongValue(f"is true or false, not {value!r}")
        return value
    if isinstance(column, CharField | TextField):
        return _chosen(column, _text(value))
    if isinstance(value, bool):
        raise WrongValue(f"is a number, not {value!r}")
    if isinstance(column, IntegerField) and isinstance(value, float):
        raise WrongValue(f"is a whole number, not {value!r}")
    try:
        number = column.to_python(value)
    except ValidationError as error:
        raise WrongValue(f"does not take {str(value)!r}: {' '.join(error.messages)}") from error
    if not math.isfinite(number):
        raise WrongValue(f"is a number, not {str(value)!r}")
    return number


def _chosen(column: Any, text: str) -> str:
    known = [choice for choice, _ in column.flatchoices]
    if known and text not in known and not (column.blank and not text):
        raise WrongValue(f"is one of {', '.join(known)}, not '{text}'")
    return text


def _text(value: Any) -> str:
    """What YAML reads as a number is no longer what the file says: 1.10 is 1.1, 0123 is 83."""
    if not isinstance(value, str):
        raise WrongValue(f"is a text; put it in quotes (it was read as {value!r})")
    if "\0" in value:
        raise WrongValue("holds a NUL character, which cannot be stored")
    return value
