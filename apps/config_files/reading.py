"""Files of configuration as plain documents, with `${VARIABLE}` replaced. One sentence for everything that is wrong."""

import difflib
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from apps.config_files.sheets import BY_SECTION, FILES, SHEETS

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_SECRETS = frozenset(secret.name for sheet in SHEETS for secret in sheet.secrets)
_LARGEST = 16 * 1024 * 1024  # bytes


class WrongFiles(Exception):
    """`remarks`: a sentence each, with its place. Nothing was changed."""

    def __init__(self, remarks: Iterable[str]) -> None:
        self.remarks = list(remarks)
        super().__init__("\n".join(self.remarks))


class _Loader(yaml.SafeLoader):
    """Without aliases, which can make a small file fill the memory, and without two values for one name."""

    def compose_node(self, parent: Any, index: int) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, "aliases (*name) are not taken", event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        mapping = super().construct_mapping(node, deep=deep)
        if len(mapping) < len(node.value):
            names = [key.value for key, _ in node.value]
            twice = next(name for name in names if names.count(name) > 1)
            raise yaml.constructor.ConstructorError(None, None, f"'{twice}' stands there twice", node.start_mark)
        return mapping


def documents(paths: Iterable[Path]) -> dict[str, Any]:
    """Section → its content, of all files; of a folder those that the export writes. Raises WrongFiles."""
    sections: dict[str, Any] = {}
    remarks: list[str] = []
    for path in _files(paths):
        try:
            for section, content in _document(path).items():
                if section in sections:
                    remarks.append(f"{path}: '{section}' stands in another of the files too. Keep it in one.")
                sections[section] = content
        except WrongFiles as wrong:
            remarks += wrong.remarks
    if remarks:
        raise WrongFiles(remarks)
    return sections


def _files(paths: Iterable[Path]) -> list[Path]:
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            found = [path / name for name in FILES if (path / name).exists()]
            if not found:
                raise WrongFiles([f"{path} has none of {', '.join(FILES)}. Name the files, or another folder."])
            files += found
        else:
            files.append(path)
    return files


def _document(path: Path) -> Mapping[str, Any]:
    try:
        if path.stat().st_size > _LARGEST:
            raise WrongFiles([f"{path} is larger than 16 MB. Is it the right file?"])
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise WrongFiles([f"{path} cannot be read ({error}). It has to be a text in UTF-8."]) from error
    try:
        document = yaml.load(text, Loader=_Loader)  # noqa: S506  # a SafeLoader
    except yaml.YAMLError as error:
        raise WrongFiles([f"{path}{_place(error)} is no YAML: {_why(error)}."]) from error
    except (ValueError, RecursionError) as error:  # such as a date that does not exist
        raise WrongFiles([f"{path} is no YAML that can be read: {error}."]) from error
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise WrongFiles(
            [f"{path} is a mapping of sections, such as `upstreams:`; this is a {type(document).__name__}."]
        )
    _check_sections(path, document)
    remarks: list[str] = []
    expanded: dict[str, Any] = _expanded(document, str(path), remarks)
    if remarks:
        raise WrongFiles(remarks)
    return expanded


def _check_sections(path: Path, document: Mapping[Any, Any]) -> None:
    remarks = []
    for section in document:
        if section not in BY_SECTION:
            near = difflib.get_close_matches(str(section), BY_SECTION, n=1)
            hint = f"Did you mean '{near[0]}'?" if near else f"There are {', '.join(BY_SECTION)}."
            remarks.append(f"{path}: there is no section '{section}'. {hint}")
    if remarks:
        raise WrongFiles(remarks)


def _expanded(value: Any, place: str, remarks: list[str], *, within: bool = False) -> Any:
    """Of secrets also `within` a text; elsewhere only a whole value, because instructions may contain `${...}`."""
    if isinstance(value, dict):
        return {
            name: _expanded(one, f"{place}: {name}", remarks, within=within or name in _SECRETS)
            for name, one in value.items()
        }
    if isinstance(value, list):
        return [_expanded(one, f"{place}[{at}]", remarks, within=within) for at, one in enumerate(value)]
    if isinstance(value, str) and (within or _VARIABLE.fullmatch(value)):
        return _VARIABLE.sub(lambda found: _variable(found[1], place, remarks), value)
    return value


def _variable(name: str, place: str, remarks: list[str]) -> str:
    if name not in os.environ:
        remarks.append(f"{place}: the environment variable {name} is not set.")
    return os.environ.get(name, "")


def _place(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    return f":{mark.line + 1}:{mark.column + 1}" if mark else ""


def _why(error: yaml.YAMLError) -> str:
    return str(getattr(error, "problem", None) or error).rstrip(".")
