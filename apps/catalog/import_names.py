"""The modules that a source text imports by name. Knows the standard library alone: apart_process.py starts with it."""

import ast
from collections.abc import Iterator

_FUNCTIONS = {"import_module", "__import__"}


def imports(text: bytes) -> list[tuple[str, int]]:
    """Dotted names and lines, in the order of the text; of `from x import y` both `x` and `x.y`, which may be a module.

    Relative imports are left out: they stay in the folder. Raises what parsing the text raises.
    """
    found = [one for node in ast.walk(ast.parse(text)) for one in _imported(node)]
    return sorted(dict.fromkeys(found), key=lambda one: one[1])


def _imported(node: ast.AST) -> Iterator[tuple[str, int]]:
    if isinstance(node, ast.Import):
        yield from ((alias.name, node.lineno) for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        yield node.module, node.lineno
        yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names if alias.name != "*")
    elif isinstance(node, ast.Call) and _name(node.func) in _FUNCTIONS:
        given = [*node.args[:1], *(keyword.value for keyword in node.keywords if keyword.arg == "name")]
        yield from ((name, node.lineno) for name in map(_text, given) if name and not name.startswith("."))


def _name(function: ast.expr) -> str:
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def _text(value: ast.expr) -> str:
    return value.value if isinstance(value, ast.Constant) and isinstance(value.value, str) else ""
