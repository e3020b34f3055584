"""What apart.py starts: answers one question about the source text on stdin. Knows the standard library alone."""

import builtins
import marshal
import sys
from collections.abc import Callable
from types import CodeType
from typing import Any

from apps.catalog import import_names, program_imports, source


def code(text: bytes, file: str) -> CodeType:
    return compile(text, file, "exec", dont_inherit=True)


def answers(text: bytes, file: str) -> dict[str, Any]:
    known = source.Source(text, file)
    return {name: getattr(known, name) for name in source.ANSWERS}


def modules_for_program(text: bytes, file: str) -> dict[str, int]:  # noqa: ARG001  # all are asked alike
    return program_imports.modules_for_program(text)


def imports(text: bytes, file: str) -> list[tuple[str, int]]:  # noqa: ARG001  # all are asked alike
    return import_names.imports(text)


QUESTIONS: dict[str, Callable[[bytes, str], Any]] = {
    one.__name__: one for one in (code, answers, modules_for_program, imports)
}


def main() -> None:
    question, file = sys.argv[1:]
    try:
        told = ("", QUESTIONS[question](sys.stdin.buffer.read(), file))
    except (SyntaxError, ValueError) as error:
        told = (type(error).__name__, error.args)
    sys.stdout.buffer.write(marshal.dumps(told))


def unpacked(output: bytes) -> Any:
    """The answer, or what was raised instead."""
    error, told = marshal.loads(output)  # noqa: S302  # written by main()
    if error:
        raise getattr(builtins, error)(*told)
    return told
