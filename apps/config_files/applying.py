"""Making the configuration what files say: all of it or nothing, row by row, so that the history tells of each change.

An entry says everything about its row: what it leaves out has its default; secrets stay as they are. Rows that no entry
is about stay, unless they are pruned.
"""

import difflib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import Model

from apps.access.models import ApiKey
from apps.config_files import sheets, values
from apps.config_files.reading import WrongFiles
from apps.config_files.sheets import SHEETS, Secret, Sheet
from apps.core.secrets import SecretUnreadable
from apps.upstreams.models import Upstream

_HIDDEN = "•••"
_KEPT = frozenset({"digest", "prefix"})  # of keys: an export leaves them out unless it is told otherwise

Member = tuple[str, Any, Any]  # its name, and its values before and after, as in files


@dataclass(frozen=True, slots=True)
class Change:
    """Of one row. `kind` is added, changed or removed."""

    section: str
    name: str
    kind: str
    members: tuple[Member, ...] = ()


@dataclass(slots=True)
class Applied:
    """What was changed (or would be), and what was left as it is though an entry is there."""

    changes: list[Change] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def apply(sections: Mapping[str, Any], *, prune: bool = False, dry_run: bool = False) -> Applied:
    """Raises WrongFiles, and then has changed nothing. With `prune`, rows of the sections that are there and have no
    entry are removed; revoked keys stay for the record."""
    import_ = _Import(prune=prune)
    with transaction.atomic():
        for sheet in SHEETS:
            if sheet.section in sections:
                import_.take(sheet, sections[sheet.section])
        if import_.wrong:
            raise WrongFiles(import_.wrong)
        if dry_run:
            transaction.set_rollback(True)
    return import_.applied


class _Wrong(Exception):
    """Something about one entry; the message names the member."""


class _Import:
    def __init__(self, *, prune: bool) -> None:
        self.applied = Applied()
        self.wrong: list[str] = []
        self._prune = prune

    def take(self, sheet: Sheet, content: Any) -> None:
        if sheet.is_row:
            self._row(sheet, content)
        elif sheet.same:
            self._listed(sheet, content)
        else:
            self._keyed(sheet, content)

    def _row(self, sheet: Sheet, content: Any) -> None:
        row = sheet.model.row()  # type: ignore[attr-defined]  # a ConfigRow
        with self._place(sheet, ""):
            self._save(sheet, "", row, _mapping(content or {}))

    def _keyed(self, sheet: Sheet, content: Any) -> None:
        if not isinstance(content or {}, dict):
            self.wrong.append(f"{sheet.section} is a mapping of names to their entries.")
            return
        named: set[Any] = set()
        for name, entry in (content or {}).items():
            with self._place(sheet, str(name)):
                row, fields = sheets.keyed(sheet, str(name))
                if row is not None:
                    named.add(row.pk)
                elif sheet.model is ApiKey and "digest" not in (entry or {}):
                    self.applied.remarks.append(
                        f"keys: {name}: there is no such key here, and none can be made without its digest. Issue one: "
                        f'manage.py issue_key "{name}"'
                    )
                    continue
                saved = self._save(sheet, str(name), row or sheet.model(**fields), _mapping(entry or {}))
                named.add(saved.pk)
        if self._prune:
            self._remove(sheet, [row for row in sheet.queryset() if row.pk not in named])

    def _listed(self, sheet: Sheet, content: Any) -> None:
        if not isinstance(content or [], list):
            self.wrong.append(f"{sheet.section} is a list of entries.")
            return
        known = _by_identity(sheet, sheet.queryset())
        for at, entry in enumerate(content or []):
            with self._place(sheet, f"[{at}]"):
                self._one_of_list(sheet, f"[{at}]", _mapping(entry), known)
        if self._prune:
            self._remove(sheet, [row for rows in known.values() for row in rows])

    def _one_of_list(
        self,
        sheet: Sheet,
        name: str,
        entry: Mapping[str, Any],
        known: Mapping[Any, list[Model]],
        outer: Model | None = None,
    ) -> None:
        fields = {sheet.inner_of: outer} if outer is not None else {}
        probe = sheet.model(**fields)
        _fill(sheet, probe, entry)
        rows = known.get(_identity(sheet, probe))
        self._save(sheet, name, rows.pop(0) if rows else sheet.model(**fields), entry)

    def _remove(self, sheet: Sheet, rows: list[Any]) -> None:
        for row in rows:
            self.applied.changes.append(Change(sheet.section, str(row), "removed"))
            row.delete()

    def _save(self, sheet: Sheet, name: str, row: Any, entry: Mapping[str, Any]) -> Any:
        is_new = row._state.adding  # noqa: SLF001  # how Django names it
        changed = [*_fill(sheet, row, entry), *_set_secrets(sheet, row, entry)]
        if isinstance(row, Upstream) and row.is_default:
            _take_default_from_others(row)
        if is_new or changed:
            _check(sheet, row)
            row.save()
            shown = name or sheet.section
            self.applied.changes.append(Change(sheet.section, shown, "added" if is_new else "changed", tuple(changed)))
        if sheet.inner:
            self._inner(sheet.inner, name, row, entry.get(sheet.inner.section) or [])
        return row

    def _inner(self, sheet: Sheet, name: str, outer: Any, entries: Any) -> None:
        if not isinstance(entries, list):
            raise _Wrong(f"{sheet.section} is a list of entries")
        known = _by_identity(sheet, sheet.model.objects.filter(**{sheet.inner_of: outer}))
        for at, entry in enumerate(entries):
            self._one_of_list(sheet, f"{name} [{at}]", _mapping(entry), known, outer)
        # An entry says everything about its row.
        self._remove(sheet, [row for rows in known.values() for row in rows])

    @contextmanager
    def _place(self, sheet: Sheet, name: str) -> Iterator[None]:
        """What goes wrong inside is told with its place, and undone; the next entry goes on."""
        place = f"{sheet.section}{name}" if name.startswith("[") or not name else f"{sheet.section}: {name}"
        try:
            with transaction.atomic():
                yield
        except (_Wrong, values.WrongValue, sheets.NoSuchRow, SecretUnreadable) as error:
            self.wrong.append(f"{place}: {str(error).rstrip('.')}.")
        except IntegrityError as error:
            self.wrong.append(f"{place}: the database refuses it ({error}).")


def _mapping(entry: Any) -> Mapping[str, Any]:
    if not isinstance(entry, dict):
        raise _Wrong(f"is a mapping of members to values, not {entry!r}")
    return entry


def _fill(sheet: Sheet, row: Any, entry: Mapping[str, Any]) -> list[Member]:
    """Sets the row's fields to what the entry says; the members that are another value now."""
    members = sheet.members()
    for name in entry:
        if name not in members:
            near = difflib.get_close_matches(str(name), members, n=1)
            raise _Wrong(
                f"there is no member '{name}'. "
                + (f"Did you mean '{near[0]}'?" if near else f"There are {', '.join(members)}")
            )
    changed = []
    for column in sheet.columns():
        name = sheet.member(column)
        if name not in entry and name in _KEPT:
            continue
        try:
            value = values.read(column, entry[name]) if name in entry else values.default(column)
        except values.WrongValue as error:
            raise _Wrong(f"{name} {error}") from error
        if not values.same(column, values.of(column, row), value):
            before = values.written(column, row)
            setattr(row, column.name, value)
            changed.append((name, before, values.written(column, row)))
    return changed


def _set_secrets(sheet: Sheet, row: Any, entry: Mapping[str, Any]) -> list[Member]:
    changed = []
    for secret in sheet.secrets:
        if secret.name in entry and _is_other(secret, row, entry[secret.name]):
            before = _HIDDEN if getattr(row, secret.column) else ""
            setattr(row, secret.column, secret.encrypted(entry[secret.name]))
            changed.append((secret.name, before, _HIDDEN if entry[secret.name] else ""))
    return changed


def _is_other(secret: Secret, row: Any, value: Any) -> bool:
    if secret.is_mapping and not (
        isinstance(value or {}, dict) and all(isinstance(v, str) for v in (value or {}).values())
    ):
        raise _Wrong(f"{secret.name} is a mapping of names to texts")
    if not secret.is_mapping and not isinstance(value or "", str):
        raise _Wrong(f"{secret.name} is a text; put it in quotes")
    try:
        return bool(secret.stored(row) != value)
    except SecretUnreadable:  # it is entered again
        return True


def _check(sheet: Sheet, row: Any) -> None:
    try:
        row.full_clean(exclude={"is_default"} if isinstance(row, Upstream) else None)
    except ValidationError as error:
        renamed = {column.name: sheet.member(column) for column in sheet.columns()}
        told = [
            f"{renamed.get(name, name)}: {' '.join(texts)}" if name != "__all__" else " ".join(texts)
            for name, texts in error.message_dict.items()
        ]
        raise _Wrong(" ".join(told)) from error


def _take_default_from_others(row: Upstream) -> None:
    for former in Upstream.objects.filter(is_default=True).exclude(pk=row.pk):
        former.is_default = False
        former.save(update_fields=["is_default"])


def _by_identity(sheet: Sheet, rows: Any) -> dict[Any, list[Model]]:
    known: defaultdict[Any, list[Model]] = defaultdict(list)
    for row in rows:
        known[_identity(sheet, row)].append(row)
    return known


def _identity(sheet: Sheet, row: Any) -> tuple[Any, ...]:
    """What tells it apart from the others of its list."""
    fields = [row._meta.get_field(name) for name in sheet.same]  # noqa: SLF001
    return tuple(getattr(row, one.attname) for one in fields)
