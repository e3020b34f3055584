"""Files of configuration as plain documents, with `${VARIABLE}` replaced. One sentence for everything that is wrong."""

import difflib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from apps.config_files.sheets import BY_SECTION, FILES, SHEETS

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_SECRETS = frozenset(secret.name for sheet in SHEETS for secret in sheet.secrets)
_LARGEST = 16 * 1024 * 1024  # bytes

Way = tuple[str | int, ...]  # to a part of the documents: a section, a name or number in it, a member of that …


class WrongFiles(Exception):
    """`remarks`: a sentence each, with its place. Nothing was changed."""

    def __init__(self, remarks: Iterable[str]) -> None:
        self.remarks = list(remarks)
        super().__init__("\n".join(self.remarks))


@dataclass(frozen=True, slots=True)
class Documents:
    """Section → its content, of all files, and the file and line of every part."""

    sections: dict[str, Any] = field(default_factory=dict)
    places: dict[Way, str] = field(default_factory=dict)

    def remark(self, way: Way, sentence: str, *, at: Way | None = None) -> str:
        """With what it is about, and the line of that or of the part `at`: `config/agents.yaml:12: agents: a/b: …`."""
        words = "".join(f"[{step}]" if isinstance(step, int) else f": {step}" for step in way)
        return ": ".join(filter(None, [self._place(at or way), words.removeprefix(": "), sentence]))

    def _place(self, way: Way) -> str:
        """Of what is missing: where it would be."""
        while way and way not in self.places:
            way = way[:-1]
        return self.places.get(way, "")


class _Loader(yaml.SafeLoader):
    """Without aliases, which can make a small file fill the memory, without two values for one name, and with names
    that are texts: `yes` and `1.10` are none without quotes. Instants stay texts, too."""

    def compose_node(self, parent: Any, index: int) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(
                None, None, "aliases (*name) are not taken: write it out", event.start_mark
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        names = set()
        for key, _ in node.value:
            if key.tag != "tag:yaml.org,2002:str":
                what = f"'{key.value}'" if isinstance(key, yaml.ScalarNode) else "that"
                raise yaml.constructor.ConstructorError(
                    None, None, f"{what} is no text, and cannot be a name: put it in quotes", key.start_mark
                )
            if key.value in names:
                raise yaml.constructor.ConstructorError(
                    None, None, f"'{key.value}' stands there twice: keep one", key.start_mark
                )
            names.add(key.value)
        return super().construct_mapping(node, deep=deep)


_PLAIN = ("str", "null", "bool", "int", "float", "seq", "map")  # what JSON has, too
_Loader.yaml_constructors = {
    tag: one
    for tag, one in yaml.SafeLoader.yaml_constructors.items()
    if tag is None or tag.removeprefix("tag:yaml.org,2002:") in _PLAIN
}
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if not tag.endswith(":timestamp")]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def documents(paths: Iterable[Path]) -> Documents:
    """All files; of a folder those that the export writes. Raises WrongFiles."""
    read = Documents()
    remarks: list[str] = []
    for path in _files(paths):
        try:
            _read(path, read)
        except WrongFiles as wrong:
            remarks += wrong.remarks
    if remarks:
        raise WrongFiles(remarks)
    return read


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


def _read(path: Path, into: Documents) -> None:
    """Raises WrongFiles."""
    try:
        loader = _Loader(_text(path))
        node = loader.get_single_node()
        document = loader.construct_document(node) if node else None
    except yaml.YAMLError as error:
        raise WrongFiles([f"{path}{_place(error)} cannot be read as YAML: {_why(error)}."]) from error
    except RecursionError as error:
        raise WrongFiles([f"{path} cannot be read as YAML: it is nested too deeply. Is it the right file?"]) from error
    except ValueError as error:  # such as a number of too many digits
        raise WrongFiles([f"{path} cannot be read as YAML: {error}. Put texts in quotes."]) from error
    if node is None or document is None:
        return
    if not isinstance(document, dict):
        raise WrongFiles(
            [f"{path} is a mapping of sections, such as `upstreams:`; this is a {type(document).__name__}."]
        )
    places = {way: f"{path}:{line}" for way, line in _lines(node)}
    here = Documents(document, places)
    remarks = [*_wrong_sections(here, into)]
    into.places.update(places)
    for section, content in document.items():
        into.sections[section] = _expanded(content, (section,), here, remarks)
    if remarks:
        raise WrongFiles(remarks)


def _text(path: Path) -> str:
    """Raises WrongFiles."""
    try:
        if not path.is_file():  # nor a device, which has no end
            why = "it is no file" if path.exists() else "there is no such file"
            raise WrongFiles(
                [f"{path} cannot be read: {why}. Name a file, or a folder with {FILES[0]} and the others."]
            )
        if path.stat().st_size > _LARGEST:
            raise WrongFiles([f"{path} is larger than 16 MB. Is it the right file?"])
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise WrongFiles([f"{path} cannot be read: {error.strerror}. Its rights have to let you."]) from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise WrongFiles([f"{path}:{line} is no text in UTF-8. Save it as UTF-8."]) from error


def _lines(node: yaml.Node) -> Iterable[tuple[Way, int]]:
    """Of every part, where its name stands. Not recursive: PyYAML has been that deep already, we need not."""
    waiting: list[tuple[Way, yaml.Node]] = [((), node)]
    while waiting:
        way, one = waiting.pop()
        if isinstance(one, yaml.MappingNode):
            for key, value in one.value:
                yield (*way, key.value), key.start_mark.line + 1
                waiting.append(((*way, key.value), value))
        elif isinstance(one, yaml.SequenceNode):
            for at, value in enumerate(one.value):
                yield (*way, at), value.start_mark.line + 1
                waiting.append(((*way, at), value))


def _wrong_sections(here: Documents, others: Documents) -> Iterable[str]:
    for section in here.sections:
        if section not in BY_SECTION:
            near = difflib.get_close_matches(section, BY_SECTION, n=1)
            hint = f"Did you mean '{near[0]}'?" if near else f"There are {', '.join(BY_SECTION)}."
            yield here.remark((section,), f"there is no such section. {hint}")
        elif section in others.sections:
            yield here.remark((section,), f"stands at {others.places[(section,)]}, too. Keep it in one file.")


def _expanded(value: Any, way: Way, here: Documents, remarks: list[str], *, within: bool = False) -> Any:
    """Of secrets also `within` a text; elsewhere only a whole value, because instructions may contain `${...}`."""
    if isinstance(value, dict):
        return {
            name: _expanded(one, (*way, name), here, remarks, within=within or name in _SECRETS)
            for name, one in value.items()
        }
    if isinstance(value, list):
        return [_expanded(one, (*way, at), here, remarks, within=within) for at, one in enumerate(value)]
    if isinstance(value, str) and (within or _VARIABLE.fullmatch(value)):
        remarks += [
            here.remark(way, f"the environment variable {name} is not set. Set it, or write the value.")
            for name in _VARIABLE.findall(value)
            if name not in os.environ
        ]
        return _VARIABLE.sub(lambda found: os.environ.get(found[1], ""), value)
    return value


def _place(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    return f":{mark.line + 1}:{mark.column + 1}" if mark else ""


_REMEDIES: Mapping[str, str] = {  # by what PyYAML says
    "'\\t' that cannot start any token": "indent with spaces, not with tabs",
    "mapping values are not allowed here": "put a text with a colon in quotes, or mend the indentation",
    "could not find expected ':'": "a name is followed by a colon; a text of several lines begins with `|`",
    "expected <block end>": "the indentation is not that of the lines above",
    "but found another document": "a file holds one document: remove the line ---",
    "could not determine a constructor": "leave the tag (!…) out",
}


def _why(error: yaml.YAMLError) -> str:
    said = str(getattr(error, "problem", None) or error).rstrip(".")
    remedy = next((remedy for part, remedy in _REMEDIES.items() if part in said), "")
    return f"{said}; {remedy}" if remedy else said
