"""Making the configuration what files say: all of it or nothing, row by row, so that the history tells of each change.

An entry says everything about its row: what it leaves out has its default; secrets stay as they are. Rows that no entry
is about stay, unless they are pruned.
"""

import difflib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.db import IntegrityError, transaction
from django.db.models import ForeignKey, Model
from django_celery_beat.models import PeriodicTask

from apps.access.models import ApiKey
from apps.audits.models import AlertChannel
from apps.catalog import declared_checks
from apps.catalog.models import DeclaredAgent
from apps.config_files import schedules, sheets, values
from apps.config_files.reading import Documents, Way, WrongFiles
from apps.config_files.sheets import SHEETS, Secret, Sheet
from apps.core.secrets import SecretUnreadable
from apps.upstreams.models import Upstream

_HIDDEN = "•••"
_KEPT = frozenset({"digest", "prefix"})  # of keys: an export leaves them out unless it is told otherwise

Row = tuple[type[Model], str]  # a model, and the name of one of its rows
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


def apply(read: Documents, *, prune: bool = False, dry_run: bool = False) -> Applied:
    """Raises WrongFiles, and then has changed nothing. With `prune`, rows of the sections that are there and have no
    entry are removed; revoked keys stay for the record."""
    import_ = _Import(read, prune=prune)
    with transaction.atomic():
        for sheet in SHEETS:
            if sheet.section in read.sections:
                import_.take(sheet, read.sections[sheet.section])
        import_.judge()
        if import_.wrong:
            raise WrongFiles(import_.wrong)
        if dry_run:
            transaction.set_rollback(True)
    if not dry_run:
        import_.tell()
    return import_.applied


class _Wrong(Exception):
    """What is wrong with an entry: sentences, each with the member that it is about; "" for all of the entry."""

    def __init__(self, *mistakes: tuple[str, str]) -> None:
        self.mistakes = mistakes
        super().__init__(" ".join(sentence for _, sentence in mistakes))


class _Import:
    def __init__(self, read: Documents, *, prune: bool) -> None:
        self.applied = Applied()
        self.wrong: list[str] = []
        self._read = read
        self._prune = prune
        self._saved: list[tuple[Way, Sheet, Any]] = []
        self._refused: set[Row] = set()  # entries that are wrong, and of which nothing more is said
        self._left_out: set[Row] = set()
        self._incomplete: set[Way] = set()  # entries with parts that wait for one of these

    def take(self, sheet: Sheet, content: Any) -> None:
        if sheet.is_row:
            self._row(sheet, content)
        elif sheet.same:
            self._listed(sheet, content)
        else:
            self._keyed(sheet, content)

    def judge(self) -> None:
        """What depends on several rows, such as whose an alias is: once all of them are there."""
        for way, sheet, row in self._saved:
            if sheet.check and way not in self._incomplete:
                with self._place(way):
                    _judged(sheet, sheet.check, row)

    def tell(self) -> None:
        """What keeps rows that were saved from doing as they should, such as a tool that there is not."""
        saved = [row for _, _, row in self._saved if isinstance(row, DeclaredAgent)]
        agents = [row for row in saved if row.stage == row.Stage.LIVE]
        if drafts := [row.agent_id for row in saved if row.stage == row.Stage.DRAFT]:
            self.applied.remarks.append(
                f"agents: {', '.join(drafts)}: a draft answers nobody yet. Add `stage: live`, or publish it in the "
                "admin."
            )
        judge = declared_checks.judge_in_force() if agents else None
        for agent in agents:
            told = declared_checks.remarks(agent, judge)
            self.applied.remarks += [f"agents: {agent.agent_id}: {sentence}" for sentence in told]
        for _, _, row in self._saved:
            if isinstance(row, AlertChannel) and row.kind == row.Kind.WEBHOOK and not row.encrypted_secret:
                self.applied.remarks.append(
                    f"alert_channels: {row}: nothing is sent to it until it has a signing_secret. Give it one in the "
                    "file, or save the channel in the admin, which makes one."
                )

    def _row(self, sheet: Sheet, content: Any) -> None:
        row = sheet.model.row()  # type: ignore[attr-defined]  # a ConfigRow
        with self._place((sheet.section,)):
            self._save(sheet, (sheet.section,), row, _mapping({} if content is None else content))

    def _keyed(self, sheet: Sheet, content: Any) -> None:
        if not isinstance(content or {}, dict):
            self._refuse((sheet.section,), "is a mapping of names to their entries.")
            return
        named: set[Any] = set()
        for name, entry in (content or {}).items():
            with self._place((sheet.section, name), about=(sheet.model, name)):
                members = _mapping({} if entry is None else entry)
                if self._lacks(sheet, (sheet.section, name), members):
                    continue
                row, fields = sheets.keyed(sheet, name)
                if row is not None and row.pk in named:
                    raise _Wrong(("", "is another name of an entry above. Keep one."))
                if row is not None:
                    named.add(row.pk)
                elif sheet.model is ApiKey and "digest" not in members:
                    self._left_out.add((ApiKey, name))
                    self.applied.remarks.append(
                        f"keys: {name}: there is no such key here, and none can be made without its digest. Issue one: "
                        f'manage.py issue_key "{name}"'
                    )
                    continue
                saved = self._save(sheet, (sheet.section, name), row or sheet.model(**fields), members)
                named.add(saved.pk)
        if self._prune:
            self._remove(sheet, [row for row in sheet.queryset() if row.pk not in named])

    def _listed(self, sheet: Sheet, content: Any) -> None:
        if not isinstance(content or [], list):
            self._refuse((sheet.section,), "is a list of entries.")
            return
        known = _by_identity(sheet, sheet.queryset())
        for at, entry in enumerate(content or []):
            self._one_of_list(sheet, (sheet.section, at), entry, known)
        if self._prune:
            self._remove(sheet, [row for rows in known.values() for row in rows])

    def _one_of_list(
        self, sheet: Sheet, way: Way, entry: Any, known: Mapping[Any, list[Model]], outer: Model | None = None
    ) -> None:
        with self._place(way):
            members = _mapping(entry)
            if self._lacks(sheet, way, members):
                return
            fields = {sheet.inner_of: outer} if outer is not None else {}
            probe = sheet.model(**fields)
            _fill(sheet, probe, members)
            rows = known.get(_identity(sheet, probe))
            self._save(sheet, way, rows.pop(0) if rows else sheet.model(**fields), members)

    def _lacks(self, sheet: Sheet, way: Way, entry: Mapping[str, Any]) -> bool:
        """Whether it refers to an entry that is wrong or left out: then it waits for that."""
        for column in sheet.columns():
            name = entry.get(sheet.member(column))
            row = (column.related_model, name)
            if not isinstance(name, str) or not isinstance(column, ForeignKey):
                continue
            if row in self._left_out:
                what = column.related_model._meta.verbose_name  # noqa: SLF001  # Django documents it
                said = f"is for the {what} '{name}', and is left out like that."
                self.applied.remarks.append(Documents().remark(way, said))
            if row in self._left_out | self._refused:
                self._incomplete.add(way[:2])
                return True
        return False

    def _remove(self, sheet: Sheet, rows: list[Any]) -> None:
        for row in rows:
            self.applied.changes.append(Change(sheet.section, str(row), "removed"))
            row.delete()

    def _save(self, sheet: Sheet, way: Way, row: Any, entry: Mapping[str, Any]) -> Any:
        before = len(self.applied.changes)
        is_new = row._state.adding  # noqa: SLF001  # how Django names it
        was = _values(sheet, row)
        _fill(sheet, row, entry)
        secrets = _set_secrets(sheet, row, entry)
        if isinstance(row, Upstream) and row.is_default:
            _take_default_from_others(row)
        if is_new or secrets or _changed(sheet, was, row):
            _judged(sheet, _clean, row)
        # Anew: what an entry leaves out the row may fill in itself, such as the schema of a tool.
        changed = [*_changed(sheet, was, row), *secrets]
        if is_new or changed:
            row.save()
            kind = "added" if is_new else "changed"
            self.applied.changes.append(Change(sheet.section, _shown(sheet, way), kind, tuple(changed)))
        if sheet.inner:
            self._inner(sheet.inner, (*way, sheet.inner.section), row, entry.get(sheet.inner.section))
        if len(self.applied.changes) > before:
            self._saved.append((way, sheet, row))
        return row

    def _inner(self, sheet: Sheet, way: Way, outer: Any, entries: Any) -> None:
        if not isinstance(entries or [], list):
            raise _Wrong((sheet.section, f"{sheet.section} is a list of entries."))
        known = _by_identity(sheet, sheet.model._default_manager.filter(**{sheet.inner_of: outer}))  # noqa: SLF001
        for at, entry in enumerate(entries or []):
            self._one_of_list(sheet, (*way, at), entry, known, outer)
        # An entry says everything about its row.
        self._remove(sheet, [row for rows in known.values() for row in rows])

    def _refuse(self, way: Way, sentence: str, member: str = "") -> None:
        place = (*way, member) if member else way
        self.wrong.append(self._read.remark(way, sentence, at=place))

    @contextmanager
    def _place(self, way: Way, about: Row | None = None) -> Iterator[None]:
        """What goes wrong inside is told with its place, and undone; the next entry goes on."""
        before = len(self.wrong)
        try:
            with transaction.atomic():
                yield
        except _Wrong as error:
            for member, sentence in error.mistakes:
                self._refuse(way, sentence, member)
        except (sheets.NoSuchRow, SecretUnreadable) as error:
            self._refuse(way, _ended(str(error)))
        except IntegrityError as error:
            self._refuse(way, f"the database refuses it ({error}).")
        if about and len(self.wrong) > before:
            self._refused.add(about)


def _mapping(entry: Any) -> Mapping[str, Any]:
    if not isinstance(entry, dict):
        raise _Wrong(("", f"is a mapping of members to values, not {entry!r}."))
    return entry


def _shown(sheet: Sheet, way: Way) -> str:
    """Of a change, without its section: a name, and the number in a list."""
    steps = way[1:-2] + way[-1:] if len(way) > 2 else way[1:]  # of an inner sheet
    return " ".join(f"[{step}]" if isinstance(step, int) else step for step in steps) or sheet.section


def _fill(sheet: Sheet, row: Any, entry: Mapping[str, Any]) -> None:
    """Sets the row's fields to what the entry says. Raises _Wrong."""
    mistakes = list(_unknown_members(sheet, entry))
    for column in sheet.columns():
        name = sheet.member(column)
        if name not in entry and name in _KEPT:
            continue
        try:
            setattr(row, column.name, values.read(column, entry[name]) if name in entry else values.default(column))
        except values.WrongValue as error:
            mistakes.append((name, f"{name} {_ended(str(error))}"))
    if mistakes:
        raise _Wrong(*mistakes)


def _values(sheet: Sheet, row: Any) -> list[tuple[Any, Any]]:
    """Of each column: its value, and that as in files."""
    return [(values.of(column, row), values.written(column, row)) for column in sheet.columns()]


def _changed(sheet: Sheet, was: list[tuple[Any, Any]], row: Any) -> list[Member]:
    return [
        (sheet.member(column), before, values.written(column, row))
        for column, (value, before) in zip(sheet.columns(), was, strict=True)
        if not values.same(column, value, values.of(column, row))
    ]


def _unknown_members(sheet: Sheet, entry: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    members = sheet.members()
    listed = f" There are {', '.join(members)}."
    for name in [name for name in entry if name not in members]:
        hint = sheet.elsewhere.get(name, "")
        if not hint and (near := difflib.get_close_matches(name, members, n=1)):
            hint = f"Did you mean '{near[0]}'?"
        yield name, f"there is no member '{name}'.{f' {hint}' if hint else listed}"
        listed = "" if not hint else listed


def _ended(sentence: str) -> str:
    return sentence if sentence.endswith((".", "?")) else f"{sentence}."


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
        raise _Wrong((secret.name, f"{secret.name} is a mapping of names to texts."))
    if not secret.is_mapping and not isinstance(value or "", str):
        raise _Wrong((secret.name, f"{secret.name} is a text; put it in quotes."))
    try:
        return bool((secret.stored(row) or None) != (value or None))
    except SecretUnreadable:  # it is entered again
        return True


def _clean(row: Any) -> None:
    if isinstance(row, PeriodicTask):  # whose own words are about columns that files do not have
        schedules.check_moment(row)
    row.full_clean(exclude={"is_default"} if isinstance(row, Upstream) else None)


def _judged(sheet: Sheet, check: Callable[[Any], None], row: Any) -> None:
    """What `check` raises as ValidationError, in the words of files. Raises _Wrong."""
    try:
        check(row)
    except ValidationError as error:
        renamed = {column.name: sheet.member(column) for column in sheet.columns()}
        raise _Wrong(
            *(
                ("", " ".join(texts)) if field == NON_FIELD_ERRORS else (member, f"{member}: {' '.join(texts)}")
                for field, texts in _by_field(error).items()
                for member in [renamed.get(field, field)]
            )
        ) from error


def _by_field(error: ValidationError) -> Mapping[str, list[str]]:
    return error.message_dict if hasattr(error, "error_dict") else {NON_FIELD_ERRORS: error.messages}


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
