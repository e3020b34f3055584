"""The arguments that a model wrote: JSON, an object, and such as the tool's schema asks for.

A schema may come from a server that nobody here wrote. It must neither make the gateway ask other servers (`$ref`) nor
keep the event loop busy (`pattern`, and `$ref` that lead round or to ever more of them).
"""

from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import msgspec
from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError as NoSchema
from jsonschema.exceptions import ValidationError, best_match
from jsonschema.protocols import Validator
from jsonschema.validators import extend, validator_for
from pydantic_core import SchemaError, SchemaValidator, core_schema
from referencing import Registry
from referencing.exceptions import Unresolvable

from apps.tools.tool import CallFailed

_MOST_REFERENCES: Final = 5_000  # that are followed for one call
_DEEPEST: Final = 100  # of them one in another
_MOST_TOLD: Final = 300  # characters of a reason: it quotes the argument
_extend: Final[Any] = extend  # has no types
_REFERENCES: Final = ("$ref", "$dynamicRef", "$recursiveRef")
_ABOUT_NAMES: Final = ("patternProperties", "additionalProperties", "unevaluatedProperties")
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


def validator(schema: Mapping[str, Any]) -> Validator:
    """Compiles a schema; draft 2020-12 unless it names another."""
    plain: Any = validator_for(schema, default=Draft202012Validator)
    followed = {name: _counted(plain.VALIDATORS[name]) for name in _REFERENCES if name in plain.VALIDATORS}
    made: Validator = _extend(plain, {"pattern": _pattern, **followed})(
        _without_patterns_of_names(schema), registry=_NOWHERE
    )
    return made


class _TooManyReferences(Exception):
    pass


@dataclass(slots=True)
class _Followed:
    """The references of one check."""

    number: int = 0
    depth: int = 0


_followed: ContextVar[_Followed] = ContextVar("followed")


def _counted(original: Any) -> Callable[..., Iterator[ValidationError]]:
    def follow(validator: Any, reference: Any, value: Any, schema: Any) -> Iterator[ValidationError]:
        so_far = _followed.get()
        so_far.number, so_far.depth = so_far.number + 1, so_far.depth + 1
        if so_far.number > _MOST_REFERENCES or so_far.depth > _DEEPEST:
            raise _TooManyReferences
        try:
            yield from original(validator, reference, value, schema)
        finally:  # whoever wants to know whether there is an error asks for no second
            so_far.depth -= 1

    return follow


def _pattern(_: Any, pattern: str, value: Any, __: Any) -> Iterator[ValidationError]:
    """In time that grows with the text alone. What that engine does not know (looking ahead) is left to the tool."""
    matcher = _matcher(pattern)
    if isinstance(value, str) and matcher is not None and not matcher.isinstance_python(value):
        yield ValidationError(f"{value!r} does not match {pattern!r}")


@lru_cache(maxsize=1024)
def _matcher(pattern: str) -> SchemaValidator | None:
    try:
        return SchemaValidator(core_schema.str_schema(pattern=pattern, regex_engine="rust-regex"))
    except SchemaError:
        return None


def _without_patterns_of_names(schema: Any) -> Any:
    """jsonschema looks for names with Python's engine, also where it asks which are additional."""
    if isinstance(schema, list):
        return [_without_patterns_of_names(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    left_out = _ABOUT_NAMES if "patternProperties" in schema else ()
    return {name: _without_patterns_of_names(one) for name, one in schema.items() if name not in left_out}


def check(arguments: Mapping[str, Any], by: Validator) -> None:
    """Raises CallFailed with the place of what does not fit."""
    _followed.set(_Followed())
    try:
        error = best_match(by.iter_errors(arguments))
    except Unresolvable as missing:
        raise CallFailed(f"its schema refers to what is not in it ({missing})", outcome="misconfigured") from missing
    except (_TooManyReferences, RecursionError) as endless:
        reason = "its schema, or what was written for it, leads from reference to reference without an end."
        raise CallFailed(reason, outcome="misconfigured") from endless
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
    except NoSchema as error:
        return f"This is no JSON schema, at {error.json_path}: {_short(error.message)}."
    return ""


def _foreign_refs(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        reference = schema.get("$ref")
        if isinstance(reference, str) and not reference.startswith("#"):
            yield reference
    for one in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        yield from _foreign_refs(one)
