"""The whole configuration as files, without secrets: what `export_config` writes, and `import_config` takes back."""

from collections.abc import Iterator, Mapping
from typing import Any

import yaml
from django.db.models import Model

from apps.access.models import ApiKey
from apps.config_files import sheets, values
from apps.config_files.sheets import Sheet

_HEAD = "# {file} of Agent Gateway, by `manage.py export_config`; docs/config-files.md describes it.\n"


def texts(*, with_digests: bool = False) -> Mapping[str, str]:
    """The content of every file by its name. `with_digests` lets keys be made anew elsewhere from what is written."""
    return {file: _text(file, with_digests=with_digests) for file in sheets.FILES}


def no_database(error: Exception) -> str:
    """What to say where the database cannot be asked."""
    return (
        f"The database cannot be used: {str(error).strip()}. Nothing was changed. Is it the right one, does it run, "
        "and has `manage.py migrate` made its tables?"
    )


def _text(file: str, *, with_digests: bool) -> str:
    document: dict[str, Any] = {}
    kept: list[str] = []
    for sheet in sheets.SHEETS:
        if sheet.file == file:
            rows = list(sheet.queryset())
            kept += [secret for row in rows for secret in _secrets(sheet, row)]
            if entries := _entries(sheet, rows, with_digests=with_digests):
                document[sheet.section] = entries
    head = _HEAD.format(file=file)
    if kept:
        head += "# Secrets are not in here; an import leaves those that are stored as they are:\n"
        head += "".join(f"#   {one}\n" for one in sorted(kept))
    return head + (_dumped(document) if document else "{}\n")


def _entries(sheet: Sheet, rows: list[Model], *, with_digests: bool) -> Any:
    if sheet.is_row:
        return entry(sheet, rows[0]) if rows else {}
    if sheet.same:
        return [entry(sheet, row) for row in rows]
    written = {sheets.name_of(row): entry(sheet, row) for row in rows}
    if sheet.model is ApiKey and not with_digests:
        for one in written.values():
            one.pop("digest", None)
            one.pop("prefix", None)
    return dict(sorted(written.items()))


def entry(sheet: Sheet, row: Model) -> dict[str, Any]:
    """What is not as its default is; all that tells rows of a list apart."""
    written: dict[str, Any] = {}
    for column in sheet.columns():
        value = values.of(column, row)
        if not values.same(column, value, values.default(column)) or (
            column.name in sheet.same and value not in (None, "")
        ):
            written[sheet.member(column)] = values.written(column, row)
    if sheet.inner:
        inner = sheet.inner.model._default_manager.filter(**{sheet.inner.inner_of: row})  # noqa: SLF001
        written[sheet.inner.section] = [entry(sheet.inner, one) for one in inner]
    return written


def _secrets(sheet: Sheet, row: Model) -> Iterator[str]:
    for secret in sheet.secrets:
        if getattr(row, secret.column):
            yield f"{sheet.section}: {sheets.name_of(row)}: {secret.name}"


class _Dumper(yaml.SafeDumper):
    """Lists indented under their name, texts of several lines as blocks."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002
        super().increase_indent(flow, indentless=False)


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    # A block cannot hold spaces before a line's end; the quoted form holds everything.
    is_block = "\n" in text and not any(line != line.rstrip() for line in text.split("\n"))
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if is_block else None)


_Dumper.add_representer(str, _represent_text)


def _dumped(document: Any) -> str:
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
