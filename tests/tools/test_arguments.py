"""What a model wrote, against the schema."""

import socket
from typing import Any

import pytest

from apps.tools.arguments import canonical, check, parse, problem_with_schema, validator
from apps.tools.tool import CallFailed

AGAIN = "Call it again with arguments that fit its schema."
SCHEMA = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "pattern": "^[a-z]+$"},
        "days": {"type": "array", "items": {"type": "integer", "maximum": 7}},
    },
    "required": ["city"],
    "additionalProperties": False,
}


@pytest.mark.parametrize("text", ["", " \n", "{}"])
def test_nothing_is_no_arguments(text: str) -> None:
    assert parse(text) == {}


@pytest.mark.parametrize("text", ["{", "null", "[]", "3", '"x"', "{'a': 1}", '{"a": NaN}', "[" * 100_000, '{"a": 1} x'])
def test_what_is_no_object_is_told(text: str) -> None:
    with pytest.raises(CallFailed) as failed:
        parse(text)

    assert (failed.value.outcome, failed.value.message.endswith(AGAIN)) == ("invalid_arguments", True)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({}, "its arguments do not fit: 'city' is a required property"),
        ({"city": 5}, "its arguments do not fit at $.city: 5 is not of type 'string'"),
        ({"city": "x", "days": [1, 9]}, "its arguments do not fit at $.days[1]: 9 is greater than the maximum of 7"),
        (
            {"city": "x", "town": 1},
            "its arguments do not fit: Additional properties are not allowed ('town' was unexpected)",
        ),
        ({"city": "X"}, "its arguments do not fit at $.city: 'X' does not match '^[a-z]+$'"),
    ],
)
def test_what_does_not_fit_is_told_with_its_place(arguments: dict[str, Any], reason: str) -> None:
    with pytest.raises(CallFailed) as failed:
        check(arguments, validator(SCHEMA))

    assert failed.value.message == f"{reason}. {AGAIN}"


def test_long_arguments_are_not_told_back_whole() -> None:
    with pytest.raises(CallFailed) as failed:
        check({"city": ["x" * 10_000]}, validator(SCHEMA))

    assert len(failed.value.message) < 500


EVIL = "^(a+)+$"


@pytest.mark.parametrize(
    ("schema", "outcome"),
    [
        ({"properties": {"a": {"pattern": EVIL}}}, "invalid_arguments"),
        ({"propertyNames": {"pattern": EVIL}}, "invalid_arguments"),
        ({"patternProperties": {EVIL: False}}, "ok"),  # left to the tool
        ({"patternProperties": {EVIL: {}}, "additionalProperties": False}, "ok"),
        ({"properties": {"a": {}}, "patternProperties": {EVIL: {}}, "unevaluatedProperties": False}, "ok"),
        ({"properties": {"a": {"pattern": "^(?=a)(a+)+$"}}}, "ok"),
    ],
)
def test_pattern_cannot_keep_the_event_loop_busy(schema: dict[str, Any], outcome: str) -> None:
    text = "a" * 60 + "!"

    assert outcome_of({"a": text, text: 1}, schema) == outcome


def outcome_of(arguments: dict[str, Any], schema: dict[str, Any]) -> str:
    try:
        check(arguments, validator(schema))
    except CallFailed as failed:
        return failed.outcome
    return "ok"


def doubling(levels: int) -> dict[str, Any]:
    """As large as the number of levels, and twice the work with each."""
    here = {f"d{level}": {"anyOf": [{"$ref": f"#/$defs/d{level + 1}"}] * 2} for level in range(levels)}
    return {"properties": {"a": {"$ref": "#/$defs/d0"}}, "$defs": {**here, f"d{levels}": {"type": "null"}}}


@pytest.mark.parametrize(
    ("schema", "outcome"),
    [
        ({"$ref": "#"}, "misconfigured"),
        ({"properties": {"a": {"$ref": "#/$defs/b"}}, "$defs": {"b": {"$ref": "#/$defs/b"}}}, "misconfigured"),
        (doubling(40), "misconfigured"),
        (doubling(3), "invalid_arguments"),
        ({"properties": {"a": {"$ref": "#"}, "b": {"type": "number"}}}, "invalid_arguments"),  # a tree
    ],
)
def test_reference_cannot_keep_the_event_loop_busy(schema: dict[str, Any], outcome: str) -> None:
    tree: dict[str, Any] = {"b": "no number"}
    for _ in range(20):
        tree = {"a": tree}

    assert outcome_of(tree, schema) == outcome


def test_many_references_are_followed_where_the_arguments_are_many() -> None:
    item = {"$defs": {"item": {"type": "integer"}}, "properties": {"all": {"items": {"$ref": "#/$defs/item"}}}}

    assert outcome_of({"all": list(range(2_000))}, item) == "ok"


def test_pattern_is_looked_for_anywhere_in_the_text() -> None:
    check({"a": "xay"}, validator({"properties": {"a": {"pattern": "a"}}}))


def test_reference_is_never_fetched() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.2)
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/schema"
        with pytest.raises(CallFailed) as failed:
            check({}, validator({"$ref": url}))
        with pytest.raises(TimeoutError):
            listening.accept()

    assert failed.value.outcome == "misconfigured"


def test_equal_arguments_are_equal_whatever_their_order() -> None:
    assert canonical({"a": 1, "b": {"c": 2, "d": 3}}) == canonical({"b": {"d": 3, "c": 2}, "a": 1})


@pytest.mark.parametrize(
    ("schema", "beginning"),
    [
        (SCHEMA, ""),
        ({}, ""),
        ({"type": "object", "properties": {"a": {"$ref": "#/$defs/a"}}, "$defs": {"a": {"type": "string"}}}, ""),
        ([], "A JSON schema is an object"),
        (None, "A JSON schema is an object"),
        ({"type": "string"}, "Arguments are an object"),
        ({"properties": {"a": {"type": "text"}}}, "This is no JSON schema, at $.properties.a.type: 'text'"),
        ({"properties": []}, "This is no JSON schema, at $.properties: [] is not of type 'object'"),
        ({"required": "a"}, "This is no JSON schema, at $.required"),
        ({"properties": {"a": {"pattern": "("}}}, "This is no JSON schema, at $.properties.a.pattern"),
        ({"properties": {"a": {"$ref": "http://x/y"}}}, "A $ref has to begin with #; http://x/y"),
        ({"allOf": [{"$ref": "other.json"}]}, "A $ref has to begin with #; other.json"),
    ],
)
def test_schema_is_checked_before_it_is_stored(schema: Any, beginning: str) -> None:
    problem = problem_with_schema(schema)

    assert (problem[: len(beginning)], bool(problem)) == (beginning, bool(beginning))
