"""What a drop-in needs around it, read from its files: nothing of it is executed."""

import ast
import os
from collections.abc import Iterator
from pathlib import Path

from apps.catalog import requirements, scan
from apps.catalog.requirements import NotInstallable

_READS = {"getenv", "environ.get", "os.getenv", "os.environ.get"}
_MAPPINGS = {"environ", "os.environ"}


def packages(folder: Path) -> list[str]:
    """The lines of its requirements.txt that this environment does not meet; the reason when it cannot be read."""
    file = folder / requirements.FILE_NAME
    if not file.is_file():
        return []
    try:
        return requirements.missing(file)
    except NotInstallable as error:
        return [str(error)]


def environment(folder: Path) -> list[str]:
    """The environment variables that its files read and that are not set here."""
    names = {name for file in _python_files(folder) for name in _variables(file)}
    return sorted(names - os.environ.keys())


def _python_files(folder: Path) -> Iterator[Path]:
    for file in folder.rglob("*.py"):
        if not scan.never_counts(file.relative_to(folder).parts):
            yield file


def _variables(file: Path) -> Iterator[str]:
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):  # what keeps it from being imported is a diagnostic of its own
        return
    for node in ast.walk(tree):
        name: ast.expr | None = None
        if isinstance(node, ast.Call) and ast.unparse(node.func) in _READS:
            name = node.args[0] if node.args else None
        elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load):
            name = node.slice if ast.unparse(node.value) in _MAPPINGS else None
        if isinstance(name, ast.Constant) and isinstance(name.value, str):
            yield name.value
