"""A JSON schema, read: references followed, alternatives chosen, the type guessed where it is not given."""

from collections.abc import Mapping, Sequence
from typing import Any

Schema = Mapping[str, Any]

MAX_HOPS = 16  # references that follow each other; more lead in a circle
MAX_SIZE = 10_000  # items, characters or properties that a schema may demand


def flat(schema: Schema, root: Any, *, smallest: bool, hops: int = 0) -> Schema:
    """The schema with its reference, its `allOf` and the chosen one of `anyOf` or `oneOf` merged into it."""
    if hops > MAX_HOPS:
        return {}
    merged = dict(schema)
    parts = [_referred(root, merged.pop("$ref"))] if "$ref" in merged else []
    parts += merged.pop("allOf", ())
    for key in ("anyOf", "oneOf"):
        if branches := merged.pop(key, ()):
            parts.append(_branch(branches, smallest=smallest))
    for part in parts:
        other = flat(part, root, smallest=smallest, hops=hops + 1) if isinstance(part, Mapping) else {}
        merged = _merged(merged, other)
    return merged


def _referred(root: Any, reference: str) -> Any:
    """The schema that a reference such as `#/$defs/Node` points to; {} when it points to nothing here."""
    found = root
    for key in filter(None, reference.removeprefix("#").split("/")):
        found = found.get(key.replace("~1", "/").replace("~0", "~"), {}) if isinstance(found, Mapping) else {}
    return found


def _branch(branches: Sequence[Any], *, smallest: bool) -> Any:
    """The first branch that is not null, unless the smallest is wanted."""
    nulls = [one for one in branches if isinstance(one, Mapping) and one.get("type") == "null"]
    if nulls and smallest:
        return nulls[0]
    return next((one for one in branches if one not in nulls), branches[0])


def _merged(one: Schema, other: Schema) -> dict[str, Any]:
    """Both schemas at once: properties and required add up, else the first one's word counts."""
    both = dict(other) | dict(one)
    if "properties" in one and "properties" in other:
        both["properties"] = dict(other["properties"]) | dict(one["properties"])
    if "required" in one and "required" in other:
        both["required"] = [*one["required"], *other["required"]]
    return both


def kind_of(schema: Schema) -> str:
    """The schema's type, the first that is not null of several; guessed from its other words when it names none."""
    given = schema.get("type")
    if isinstance(given, list):
        given = next((one for one in given if one != "null"), "null")
    if isinstance(given, str):
        return given
    signs = {"properties": "object", "required": "object", "items": "array", "prefixItems": "array"}
    signs |= {"minimum": "number", "maximum": "number", "multipleOf": "number"}
    return next((kind for sign, kind in signs.items() if sign in schema), "string")


def size(schema: Schema, name: str) -> int:
    """The least number of items, characters or properties. Raises ValueError for one out of all proportion."""
    least = int(schema.get(name, 0))
    if least > MAX_SIZE:
        raise ValueError(f"{name} is more than {MAX_SIZE}")
    return least
