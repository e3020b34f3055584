"""Which imports of agent.py serve its program alone: what main() asks or prints with, and no agent needs.

Read from the text. In doubt an import is needed: a name counts as the program's only when every use of it is a
call chain that begins in the `if __name__ == "__main__"` block, or in main().
"""

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from apps.catalog import source

_Function = ast.FunctionDef | ast.AsyncFunctionDef
_ANYTHING = "*"
_PLAIN = {"str", "int", "float", "bool"}


@dataclass(frozen=True, slots=True)
class _Imported:
    module: str
    line: int
    names: frozenset[str]


def modules_for_program(text: str | bytes) -> dict[str, int]:
    """The modules, as the import statements at module level name them, with their lines."""
    tree = ast.parse(text)
    program = _program_functions(tree)
    needed = set(_names(_needed(tree, program)))
    needed |= {name for function in program.values() for name in _names(_kept(function))}
    used = set(_names([tree]))
    imports = [one for node in tree.body for one in _imports(node)]
    others = {one.module for node in ast.walk(tree) if node not in tree.body for one in _imports(node)}
    refused = {one.module for one in imports if _ANYTHING in one.names or one.names & needed or not one.names & used}
    return {one.module: one.line for one in reversed(imports) if one.module not in refused | others}


def _imports(node: ast.AST) -> Iterator[_Imported]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield _Imported(alias.name, node.lineno, frozenset({alias.asname or alias.name.partition(".")[0]}))
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        yield _Imported(node.module, node.lineno, frozenset(alias.asname or alias.name for alias in node.names))


def _program_functions(tree: ast.Module) -> dict[str, _Function]:
    """Those that only the program calls. Decorated ones, workflows, factories and what is passed on are not."""
    functions = {one.name: one for one in tree.body if isinstance(one, _Function)}
    values = set(_values(tree))
    free = {name: one for name, one in functions.items() if not one.decorator_list and name not in values}
    free = {name: one for name, one in free.items() if not _may_serve(one)}
    program = _reached(tree, free)
    while taken := set(_names(_needed(tree, program))) & program.keys():
        program = {name: one for name, one in program.items() if name not in taken}
    return program


def _reached(tree: ast.Module, functions: dict[str, _Function]) -> dict[str, _Function]:
    open_ends: list[ast.AST] = [*source.main_blocks(tree)]
    found = {"main": functions["main"]} if "main" in functions else {}
    open_ends += found.values()
    for node in open_ends:  # grows while it is walked
        for name in _names([node]):
            if name in functions and name not in found:
                found[name] = functions[name]
                open_ends.append(functions[name])
    return found


def _needed(tree: ast.Module, program: dict[str, _Function]) -> Iterator[ast.AST]:
    """What runs, or may run, without the program: of its functions the annotations and defaults only."""
    blocks = source.main_blocks(tree)
    for node in tree.body:
        if isinstance(node, _Function) and program.get(node.name) is node:
            yield node.args
            if node.returns:
                yield node.returns
        elif node not in blocks:
            yield node


def _kept(function: _Function) -> Iterator[ast.AST]:
    """What may outlive the program's run in an agent that it builds: lambdas, classes, tools."""
    nested = [one for one in ast.walk(function) if isinstance(one, _Function) and one is not function]
    values = set(_values(function))
    yield from (one for one in nested if one.decorator_list or one.name in values)
    yield from (one for one in ast.walk(function) if isinstance(one, ast.Lambda | ast.ClassDef))


def _may_serve(function: _Function) -> bool:
    """Whether it could be what the module exports: apps/catalog/exports.py decides about the objects."""
    returns = ast.unparse(function.returns) if function.returns else ""
    is_factory = function.name in source.FACTORY_NAMES or "Agent" in returns or source.is_factory(function)
    return is_factory or _may_be_workflow(function)


def _may_be_workflow(function: _Function) -> bool:
    """Agent Builder's takes an object of some class of its own, any other has this name."""
    inputs = [ast.unparse(one.annotation) if one.annotation else "str" for one in function.args.args]
    return function.name == "run_workflow" or (len(inputs) == 1 and inputs[0] not in _PLAIN)


def _values(root: ast.AST) -> Iterator[str]:
    """Names that are passed on or kept, rather than called; those that a text names too."""
    called = {node.func for node in ast.walk(root) if isinstance(node, ast.Call)}
    for node in ast.walk(root):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node not in called:
            yield node.id
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def _names(roots: Iterable[ast.AST]) -> Iterator[str]:
    yield from (node.id for root in roots for node in ast.walk(root) if isinstance(node, ast.Name))
