"""Values that fit a JSON schema, made of what a text offers.

Heeds what Pydantic and the Agents SDK write into schemas; `not`, `if`, `contains`, `dependentRequired` and most
`pattern`s are beyond it.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from apps.upstreams.demo.bounds import bounded
from apps.upstreams.demo.errors import DemoRequestError
from apps.upstreams.demo.hints import FORMATS, Hints
from apps.upstreams.demo.schema_reading import Schema, flat, kind_of, size

MAX_DEPTH = 6  # beyond it, or so many values, a schema that refers to itself is filled with as little as it allows
MAX_VALUES = 500

_PATTERN_TRIES = ("demo", "Demo", "DEMO", "d", "D", "1", "12", "123", "1234", "12345", "D1", "A-1", "ABC-123", "ABC123")


def json_fitting(schema: Any, hints: Hints, *, param: str) -> str:
    """JSON that fits the schema. Raises DemoRequestError when it is no schema."""
    try:
        return json.dumps(fitting(schema, hints), ensure_ascii=False)
    except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RecursionError) as error:
        raise DemoRequestError(f"A schema in `{param}` is not a JSON schema: {error}", param=param) from error


def fitting(schema: Any, hints: Hints) -> Any:
    """A value that fits: of an object the required properties, or all of them when it requires none."""
    return _Filling(schema, hints).value(schema, name="", depth=0)


class _Filling:
    """One value in the making: the root resolves references, the hints are used up as it grows."""

    def __init__(self, root: Any, hints: Hints) -> None:
        self.root = root
        self.hints = hints
        self.made = 0

    def is_enough(self, depth: int) -> bool:
        return depth >= MAX_DEPTH or self.made >= MAX_VALUES

    def flat(self, schema: Schema, depth: int) -> Schema:
        return flat(schema, self.root, smallest=self.is_enough(depth))

    def value(self, schema: Any, *, name: str, depth: int) -> Any:
        if not isinstance(schema, Mapping):
            return "demo"
        self.made += 1
        schema = self.flat(schema, depth)
        if "const" in schema:
            return schema["const"]
        if schema.get("enum"):
            return self.member(schema["enum"])
        for given in ("default", "example"):
            if given in schema:
                return schema[given]
        if schema.get("examples"):
            return schema["examples"][0]
        return self.typed(schema, name=name, depth=depth)

    def member(self, members: Sequence[Any]) -> Any:
        """The member that the text names, else the first that is not null."""
        text = self.hints.text.lower()
        named = [one for one in members if isinstance(one, str) and re.search(rf"\b{re.escape(one.lower())}\b", text)]
        return next(iter(named + [one for one in members if one is not None]), None)

    def typed(self, schema: Schema, *, name: str, depth: int) -> Any:
        match kind_of(schema):
            case "object":
                return self.object(schema, depth)
            case "array":
                return self.array(schema, name, depth)
            case "integer" | "number" as kind:
                return bounded(self.hints.number(), schema, whole=kind == "integer")
            case "boolean":
                return self.hints.truth(name)
            case "null":
                return None
        return self.string(schema, name)

    def object(self, schema: Schema, depth: int) -> dict[str, Any]:
        properties = schema.get("properties") or {}
        wanted = self.wanted(properties, schema.get("required") or (), depth)
        made = {key: self.value(properties.get(key, {}), name=key, depth=depth + 1) for key in wanted}
        return made | self.further(schema, made, depth)

    def wanted(self, properties: Mapping[str, Any], required: Sequence[str], depth: int) -> list[str]:
        if required:
            return [key for key in properties if key in required] + [key for key in required if key not in properties]
        return [] if self.is_enough(depth) else [key for key in properties if "default" not in properties[key]]

    def further(self, schema: Schema, made: Mapping[str, Any], depth: int) -> dict[str, Any]:
        """Further keys, for objects that need more than the properties that they name, and one for a mapping."""
        properties, additional = schema.get("properties") or {}, schema.get("additionalProperties", {})
        is_mapping = not made and isinstance(additional, Mapping) and bool(additional) and not self.is_enough(depth)
        least = max(size(schema, "minProperties"), int(is_mapping))
        keys = [key for key in properties if key not in made] + [f"demo{number}" for number in range(1, least + 1)]
        return {
            key: self.value(properties.get(key, additional), name=key, depth=depth + 1)
            for key in keys[: max(0, least - len(made))]
        }

    def array(self, schema: Schema, name: str, depth: int) -> list[Any]:
        first, rest = schema.get("prefixItems") or (), schema.get("items", {})
        length = max(size(schema, "minItems"), len(first), 0 if self.is_enough(depth) else 1)
        if schema.get("maxItems") is not None:
            length = min(length, schema["maxItems"])
        made: list[Any] = []
        for index in range(length):
            item = first[index] if index < len(first) else rest
            value = self.value(item, name=name.removesuffix("s"), depth=depth + 1)
            made.append(self.untaken(value, item, made, depth) if schema.get("uniqueItems") else value)
        return made

    def untaken(self, value: Any, schema: Any, taken: Sequence[Any], depth: int) -> Any:
        """The value, or one like it that is not taken."""
        if value not in taken:
            return value
        schema = self.flat(schema, depth) if isinstance(schema, Mapping) else {}
        if free := [one for one in schema.get("enum") or () if one not in taken]:
            return free[0]
        if isinstance(value, str):
            return _numbered(value, len(taken) + 1, schema)
        return max(taken) + (schema.get("multipleOf") or 1) if isinstance(value, (int, float)) else value

    def string(self, schema: Schema, name: str) -> str:
        format_, pattern = schema.get("format"), schema.get("pattern")
        value = self.hints.formatted(str(format_)) if format_ in FORMATS else self.hints.string(name)
        if isinstance(pattern, str):
            value = next((one for one in (value, *_PATTERN_TRIES) if _matches(pattern, one)), value)
        return value.ljust(size(schema, "minLength"), "x")[: schema.get("maxLength")]


def _numbered(value: str, number: int, schema: Schema) -> str:
    ending = str(number)
    return value[: schema.get("maxLength", len(value) + len(ending)) - len(ending)] + ending


def _matches(pattern: str, value: str) -> bool:
    try:
        return re.search(pattern, value) is not None
    except re.error:  # JavaScript's dialect
        return True
