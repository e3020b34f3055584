"""The arguments that a model wrote: JSON, an object, and such as the tool's schema asks for.

A schema may come from a server that nobody here wrote. It must neither make the gateway ask other servers (`$ref`) nor
keep the event loop busy (`pattern`).
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec
from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, best_match
from jsonschema.protocols import Validator
from jsonschema.validators import extend, validator_for
from referencing import Registry
from referencing.exceptions import Unresolvable

from apps.tools.tool import CallFailed

_MOST_TOLD: Final = 300  # characters of a reason: it quotes the argument
_NOWHERE: Final[Any] = Registry()  # jsonschema's own would fetch what a $ref names


def parse(text: str) -> dict[str, Any]:
    """Raises CallFailed. Models write nothing where there are no arguments."""
    try:
        value = msgspec.json.decode(text) if text.strip() else {}
    except (msgspec.DecodeError, RecursionError) as error:
        raise _wrong(f"its arguments are no JSON ({error})") from error
    if not isinstance(value, dict):
        raise _wrong("its arguments have to be one JSON object")
    return value


def canonical(arguments: Mapping[str, Any]) -> bytes:
    """The same for arguments that are equal, whatever their order."""
    return msgspec.json.encode(arguments, order="sorted")


def validator(schema: Mapping[str, Any], *, with_patterns: bool) -> Validator:
    """Compiles a schema; draft 2020-12 unless it names another. Without patterns where a stranger wrote them: Python's
    may take for ever, and the server will look itself."""
    kind: Any = validator_for(schema, default=Draft202012Validator)
    if not with_patterns:
        kind = extend(kind, {"pattern": _anything, "patternProperties": _anything})
    made: Validator = kind(schema, registry=_NOWHERE)
    return made


def _anything(*_: Any) -> Iterator[Any]:
    return iter(())


def check(arguments: Mapping[str, Any], by: Validator) -> None:
    """Raises CallFailed with the place of what does not fit."""
    try:
        error = best_match(by.iter_errors(arguments))
    except Unresolvable as missing:
        raise CallFailed(f"its schema refers to what is not in it ({missing})", outcome="misconfigured") from missing
    if error is not None:
        place = "" if error.json_path == "$" else f" at {error.json_path}"
        raise _wrong(f"its arguments do not fit{place}: {_short(error.message)}")


def _wrong(reason: str) -> CallFailed:
    return CallFailed(f"{reason}. Call it again with arguments that fit its schema.", outcome="invalid_arguments")


def _short(text: str) -> str:
    return text if len(text) <= _MOST_TOLD else f"{text[: _MOST_TOLD // 2]} … {text[-_MOST_TOLD // 2 :]}"


# --- schemas that operators write ------------------------------------------------------------------------------------


def problem_with_schema(schema: Any) -> str:
    """Why it cannot be the schema of a tool's arguments, in a sentence; empty when it can."""
    if not isinstance(schema, dict):
        return 'A JSON schema is an object: {"type": "object", "properties": {"city": {"type": "string"}}}.'
    if schema.get("type", "object") != "object":
        return 'Arguments are an object: the schema\'s "type" has to be "object".'
    if foreign := next(_foreign_refs(schema), None):
        return f"A $ref has to begin with #; {foreign} would be fetched from elsewhere. Write what is there instead."
    kind: Any = validator_for(schema, default=Draft202012Validator)
    try:
        kind.check_schema(schema, format_checker=kind.FORMAT_CHECKER)
    except SchemaError as error:
        return f"This is no JSON schema, at {error.json_path}: {_short(error.message)}."
    return ""


def _foreign_refs(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        reference = schema.get("$ref")
        if isinstance(reference, str) and not reference.startswith("#"):
            yield reference
    for one in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        yield from _foreign_refs(one)
