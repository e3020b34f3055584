"""Imports that the operators deny, found in the text of a file before any of it is executed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from apps.catalog import apart
from apps.core import globs

_SDK: Final = "apps.tools.sdk"  # made for modules: who denies them `apps.*` does not mean it


@dataclass(frozen=True, slots=True)
class Denied:
    """An import of the module `name`, which `pattern` of the list forbids."""

    name: str
    pattern: str
    file: str
    line: int


class DeniedImport(ImportError):
    """A module that is about to be executed contains a denied import."""

    def __init__(self, denied: Denied) -> None:
        super().__init__(f"{denied.name} is denied")
        self.denied = denied


def denied_in(text: bytes, file: str, patterns: Sequence[str]) -> list[Denied]:
    """Every import that the names or globs forbid, once a line. `subprocess` stands for `subprocess.x` too.

    A text that is not valid Python has none: nothing can import it.
    """
    try:
        imports = apart.imports(text, file)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    found: dict[tuple[str, int], Denied] = {}
    for name, line in imports:
        if pattern := _forbidding(name, patterns):
            found.setdefault((pattern, line), Denied(name, pattern, file, line))
    return list(found.values())


def _forbidding(name: str, patterns: Sequence[str]) -> str | None:
    if name == _SDK or name.startswith(f"{_SDK}."):
        patterns = [one for one in patterns if one.startswith(_SDK)]
    return next((one for one in patterns if globs.matches(name, (one, f"{one}.*"))), None)
