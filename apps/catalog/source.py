"""What the text of agent.py tells that its objects do not: what was imported from elsewhere, and what runs what."""

import ast
from collections.abc import Iterator, Sequence
from functools import cached_property
from types import CodeType

# Agents that are run only inside functions under these decorators are parts of another agent.
_INNER_MARKS = {
    "function_tool",
    "input_guardrail",
    "output_guardrail",
    "tool_input_guardrail",
    "tool_output_guardrail",
    "InputGuardrail",
    "OutputGuardrail",
}
AGENTS = frozenset({"Agent", "SandboxAgent"})
# Factories without a return annotation too: what these names promise is plain.
FACTORY_NAMES = frozenset({"create_agent", "build_agent", "get_agent", "make_agent"})
_RUN_METHODS = {"run", "run_sync", "run_streamed"}
_Function = ast.FunctionDef | ast.AsyncFunctionDef


class Source:
    """Each answer is worked out when it is asked for: most modules are plain enough to need none."""

    def __init__(self, text: str | bytes, file: str = "agent.py") -> None:
        """`file` stands in tracebacks of the program. Any answer raises what compiling the text raises."""
        self._text, self._file = text, file

    @cached_property
    def _tree(self) -> ast.Module:
        return ast.parse(self._text, self._file)

    @cached_property
    def _functions(self) -> dict[str, _Function]:
        return {node.name: node for node in self._tree.body if isinstance(node, _Function)}

    @cached_property
    def imported(self) -> frozenset[str]:
        """Names that an import statement bound."""
        return frozenset(_imported_names(self._tree))

    @cached_property
    def inner(self) -> frozenset[str]:
        """Agents run by tools and guardrails, and by nothing else."""
        functions = set(_inner_functions(self._tree, self._functions))
        inner = {name for function in functions for name in _run_names(self._functions[function])}
        if not inner:
            return frozenset()
        rest = [node for node in self._tree.body if not (isinstance(node, _Function) and node.name in functions)]
        return frozenset(inner.difference(*(_run_names(node) for node in rest)))

    @cached_property
    def started(self) -> tuple[str, ...]:
        """What main() gives to Runner, first to last."""
        return tuple(_started(self._tree, self._functions))

    @cached_property
    def calls(self) -> dict[str, frozenset[str]]:
        """Functions, and the names that they call."""
        return {name: frozenset(_called_names(node)) for name, node in self._functions.items()}

    @cached_property
    def builds(self) -> frozenset[str]:
        """The classes that are built or subclassed anywhere, and other names that are called."""
        return frozenset(_built_names(self._tree))

    @cached_property
    def packages(self) -> frozenset[str]:
        """Top-level names of what is imported anywhere."""
        return frozenset(_packages(self._tree))

    @cached_property
    def builds_inside(self) -> bool:
        """An Agent(...) is built inside a function."""
        return _builds_inside(self._tree)

    @cached_property
    def factories(self) -> frozenset[str]:
        """Functions without annotation whose every return is an Agent that they build."""
        return frozenset(name for name, node in self._functions.items() if is_factory(node))

    @cached_property
    def program(self) -> CodeType | None:
        """What runs when the file is the main program."""
        return _program(self._tree, self._functions, self._file)


ANSWERS = frozenset(
    name for name, value in vars(Source).items() if isinstance(value, cached_property) and not name.startswith("_")
)


def _imported_names(tree: ast.Module) -> Iterator[str]:
    for node in _outside_functions(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from (alias.asname or alias.name.partition(".")[0] for alias in node.names)


def _outside_functions(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, _Function | ast.ClassDef | ast.Lambda):
            yield child
            yield from _outside_functions(child)


def _inner_functions(tree: ast.Module, functions: dict[str, _Function]) -> Iterator[str]:
    for name, function in functions.items():
        if any(_last_name(mark) in _INNER_MARKS for mark in function.decorator_list):
            yield name
    for node in ast.walk(tree):  # InputGuardrail(guardrail_function=check), function_tool(look_up)
        if isinstance(node, ast.Call) and _last_name(node.func) in _INNER_MARKS:
            yield from (one.id for one in _arguments(node) if isinstance(one, ast.Name) and one.id in functions)


def _started(tree: ast.Module, functions: dict[str, _Function]) -> Iterator[str]:
    """From `main`, else from what the `if __name__ == "__main__"` block calls, else from that block itself."""
    blocks = main_blocks(tree)
    named = [functions["main"]] if "main" in functions else []
    called = [functions[name] for block in blocks for name in _called_names(block) if name in functions]
    for node in [*named, *called, *blocks]:
        yield from _run_names(node)


def main_blocks(tree: ast.Module) -> list[ast.If]:
    return [node for node in tree.body if isinstance(node, ast.If) and "__main__" in ast.dump(node.test)]


def _program(tree: ast.Module, functions: dict[str, _Function], file: str) -> CodeType | None:
    """The `if __name__ == "__main__"` block, else a call of main()."""
    body = [statement for block in main_blocks(tree) for statement in block.body]
    main = functions.get("main")
    if not body and main and not (len(main.args.args) - len(main.args.defaults)):
        call = "__import__('asyncio').run(main())" if isinstance(main, ast.AsyncFunctionDef) else "main()"
        body = ast.parse(call).body
    return compile(ast.Module(body, type_ignores=[]), file, "exec") if body else None


def _built_names(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield _last_name(node.func)
        elif isinstance(node, ast.ClassDef):
            yield from map(_last_name, node.bases)


def _builds_inside(tree: ast.Module) -> bool:
    functions = (node for node in ast.walk(tree) if isinstance(node, _Function))
    return any(_last_name(call.func) in AGENTS for function in functions for call in _calls(function))


def is_factory(function: _Function) -> bool:
    """Whether its text alone says that it is one: it runs nothing, and each return gives an Agent that it built."""
    if function.name == "main" or any(isinstance(one, ast.Name) and one.id == "Runner" for one in ast.walk(function)):
        return False
    built = {name for node in _outside_functions(function) for name in _agents_assigned(node)}
    returns = [node.value for node in _outside_functions(function) if isinstance(node, ast.Return)]
    return bool(returns) and all(_is_agent(one) or (isinstance(one, ast.Name) and one.id in built) for one in returns)


def _agents_assigned(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Assign) and _is_agent(node.value):
        yield from (target.id for target in node.targets if isinstance(target, ast.Name))
    elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and _is_agent(node.value):
        yield node.target.id


def _is_agent(value: ast.expr | None) -> bool:
    return isinstance(value, ast.Call) and _last_name(value.func) in AGENTS


def _packages(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def _run_names(root: ast.AST) -> Iterator[str]:
    """The names given to Runner.run, run_sync or run_streamed, in the order of the text."""
    aliases = dict(_aliases(root))
    for node in sorted(_calls(root), key=lambda call: (call.lineno, call.col_offset)):
        if isinstance(node.func, ast.Attribute) and node.func.attr in _RUN_METHODS and "Runner" in ast.dump(node.func):
            first = _first_argument(node)
            if isinstance(first, ast.Name):
                yield aliases.get(first.id, first.id)
            elif isinstance(first, ast.Call) and isinstance(first.func, ast.Name):
                yield first.func.id  # Runner.run(create_agent(), ...)


def _aliases(root: ast.AST) -> Iterator[tuple[str, str]]:
    """`current_agent = triage_agent` inside a function."""
    for node in ast.walk(root):
        targets: Sequence[ast.expr] = ()
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, ast.AnnAssign):
            targets = [node.target]
        else:
            continue
        if isinstance(node.value, ast.Name):
            yield from ((one.id, node.value.id) for one in targets if isinstance(one, ast.Name))


def _first_argument(call: ast.Call) -> ast.expr | None:
    named = (keyword.value for keyword in call.keywords if keyword.arg == "starting_agent")
    return next(iter(call.args), None) or next(named, None)


def _arguments(call: ast.Call) -> list[ast.expr]:
    return [*call.args, *(keyword.value for keyword in call.keywords)]


def _called_names(root: ast.AST) -> Iterator[str]:
    for call in _calls(root):
        if isinstance(call.func, ast.Name):
            yield call.func.id
        elif isinstance(call.func, ast.Subscript) and isinstance(call.func.value, ast.Name):
            yield call.func.value.id  # Agent[Context](...)


def _calls(root: ast.AST) -> Iterator[ast.Call]:
    return (node for node in ast.walk(root) if isinstance(node, ast.Call))


def _last_name(node: ast.expr) -> str:
    """The `function_tool` of `function_tool`, `agents.function_tool` and `function_tool(...)` alike."""
    if isinstance(node, ast.Call):
        return _last_name(node.func)
    if isinstance(node, ast.Subscript):  # Agent[Context]
        return _last_name(node.value)
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""
