"""A field's value ↔ what stands in a file: plain YAML that a person would write."""

from datetime import date, datetime
from decimal import Decimal
from typing import Any

from django.core.exceptions import ValidationError
from django.db.models import DateTimeField, DecimalField, ForeignKey, JSONField, Model
from django.utils.dateparse import parse_datetime
from django.utils.timezone import is_naive, make_aware

from apps.config_files import sheets


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
        return value
    if isinstance(column, DecimalField) and isinstance(value, int | float) and not isinstance(value, bool):
        return Decimal(str(value))
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
        return bool(getattr(one, "pk", None) == getattr(another, "pk", None))
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


def _instant(value: Any) -> datetime:
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)  # noqa: DTZ001  # made aware below
    if isinstance(value, str):
        try:
            value = parse_datetime(value)
        except ValueError:
            value = None
    if not isinstance(value, datetime):
        raise WrongValue("is no instant; write it as 2026-12-31T00:00:00Z")
    return make_aware(value) if is_naive(value) else value


def _plain(column: Any, value: Any) -> Any:
    wanted = type(column.get_default()) if column.has_default() else None
    if isinstance(value, dict | list):
        raise WrongValue("is one value, not a list or a mapping")
    if wanted is bool and not isinstance(value, bool):
        raise WrongValue(f"is true or false, not {value!r}")
    if isinstance(value, bool) and wanted is not bool and column.get_internal_type() != "BooleanField":
        raise WrongValue(f"is no {value!r}; put it in quotes if that is meant as text")
    if value is None:
        raise WrongValue("is empty; leave it out for its default")
    try:
        return column.to_python(value)
    except ValidationError as error:
        raise WrongValue(f"does not take {value!r}: {' '.join(error.messages)}") from error
