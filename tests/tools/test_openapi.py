"""OpenAPI documents as tools."""

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from apps.core.audit import changes
from apps.tools import openapi
from apps.tools.models import Kind, Tool
from apps.tools.openapi import NotImportable, Operation, read
from apps.tools.openapi_import import import_operations

PETS = """
openapi: 3.0.3
info: {title: Pets, version: "1"}
servers: [{url: "https://{env}.example.com/v1/", variables: {env: {default: api}}}]
components:
  securitySchemes:
    key: {type: apiKey, in: header, name: X-Key}
  parameters:
    Limit: {name: limit, in: query, description: At most., schema: {type: integer, minimum: 1, exclusiveMinimum: true}}
  schemas:
    Pet:
      type: object
      required: [id, name]
      properties:
        id: {type: integer, readOnly: true}
        name: {type: string, example: Rex}
        tag: {type: string, nullable: true, enum: [dog, cat]}
        parent: {$ref: "#/components/schemas/Pet"}
security: [{key: []}]
paths:
  /pets:
    get:
      operationId: listPets
      summary: All pets
      description: One page of them.
      parameters:
        - $ref: "#/components/parameters/Limit"
        - {name: "filter[tag]", in: query, schema: {type: array, items: {type: string}}}
        - {name: X-Trace, in: header, schema: {type: string}}
        - {name: Authorization, in: header, schema: {type: string}}
        - {name: session, in: cookie, schema: {type: string}}
    post:
      operationId: addPet
      security: []
      requestBody: {required: true, content: {application/json: {schema: {$ref: "#/components/schemas/Pet"}}}}
  /pets/{id}:
    parameters: [{name: id, in: path, required: true, schema: {type: integer}}]
    delete: {summary: Away with it}
    patch:
      operationId: change pet
      requestBody:
        content:
          application/json: {schema: {type: object, required: [id], properties: {id: {type: string}, name: {}}}}
"""


def operations(document: Any, **how: str) -> dict[str, Operation]:
    text = document if isinstance(document, str) else json.dumps(document)
    return {one.name: one for one in read(text, **how)}


def one(operation: Any, path: str = "/x", **document: Any) -> Operation:
    """Of a document with this one operation."""
    whole = {"openapi": "3.1.0", "servers": [{"url": "https://a.b"}], "paths": {path: {"post": operation}}, **document}
    return next(iter(operations(whole).values()))


def body(schema: Any, kind: str = "application/json", **more: Any) -> Any:
    return {"operationId": "x", "requestBody": {"required": True, "content": {kind: {"schema": schema}}, **more}}


def test_operations_become_requests_with_one_flat_set_of_arguments() -> None:
    found = operations(PETS)

    assert list(found) == ["listPets", "addPet", "change_pet", "delete__pets_id"]
    listing = found["listPets"]
    assert (listing.method, listing.url) == (
        "GET",
        "https://api.example.com/v1/pets?limit={limit}&filter%5Btag%5D={filter_tag}",
    )
    assert listing.headers == {"X-Trace": "{X-Trace}"}
    assert listing.description == "All pets\nOne page of them."
    assert listing.parameters == {
        "type": "object",
        "properties": {
            "limit": {"type": "integer", "exclusiveMinimum": 1, "description": "At most."},
            "filter_tag": {"type": "array", "items": {"type": "string"}},
            "X-Trace": {"type": "string"},
        },
        "required": [],
        "additionalProperties": False,
    }
    assert listing.remarks == (
        "'filter[tag]' of its query is the argument filter_tag.",
        "Needs a secret in the header X-Key (key).",
    )


def test_body_has_what_may_be_written_and_ends_where_it_repeats() -> None:
    adding = operations(PETS)["addPet"]

    assert adding.body == {"name": "{name}", "tag": "{tag}", "parent": "{parent}"}
    assert adding.parameters["required"] == ["name"]
    assert adding.parameters["properties"] == {
        "name": {"type": "string"},
        "tag": {"type": ["string", "null"], "enum": ["dog", "cat", None]},
        "parent": {"description": "The same again."},
    }
    assert adding.remarks == ()


def test_names_that_meet_are_told_apart() -> None:
    change = operations(PETS)["change_pet"]

    assert (change.url, change.body) == (
        "https://api.example.com/v1/pets/{id}",
        {"id": "{body_id}", "name": "{name}"},
    )
    assert (change.parameters["required"], change.remarks[0]) == (
        ["id", "body_id"],
        "'id' of its body is the argument body_id.",
    )


def test_operations_of_one_name_are_numbered() -> None:
    paths = {f"/{path}": {"get": {"operationId": "same"}} for path in "abc"}

    found = operations({"openapi": "3.1.0", "servers": [{"url": "https://a.b"}], "paths": paths}, prefix="p_")

    assert {name: operation.remarks for name, operation in found.items()} == {
        "p_same": (),
        "p_same_2": ("Called p_same_2: another one is p_same.",),
        "p_same_3": ("Called p_same_3: another one is p_same.",),
    }


@pytest.mark.parametrize(
    ("schema", "template"),
    [
        ({"type": "array", "items": {"type": "string"}}, "{body}"),
        ({"type": "object", "additionalProperties": True}, "{body}"),
        ({"type": "string"}, "{body}"),
        ({}, "{body}"),
        (
            {"allOf": [{"properties": {"a": {}}, "required": ["a"]}, {"properties": {"b": {}}}]},
            {"a": "{a}", "b": "{b}"},
        ),
    ],
)
def test_body_that_is_no_plain_object_is_one_argument(schema: Any, template: Any) -> None:
    assert one(body(schema)).body == template


def test_form_is_sent_as_one() -> None:
    form = one(body({"properties": {"a": {}}}, "application/x-www-form-urlencoded"))

    assert (form.headers, form.body) == ({"Content-Type": "application/x-www-form-urlencoded"}, {"a": "{a}"})


def test_base_url_stands_before_what_the_document_says() -> None:
    assert operations(PETS, base_url="http://box:8080/api/")["addPet"].url == "http://box:8080/api/pets"


def deep(levels: int) -> Any:
    schema: Any = {"type": "string"}
    for _ in range(levels):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


def wide() -> dict[str, Any]:
    """A few lines that stand for a thousand million."""
    schemas: dict[str, Any] = {"S0": {"type": "string"}}
    for level in range(1, 10):
        reference = {"$ref": f"#/components/schemas/S{level - 1}"}
        schemas[f"S{level}"] = {"type": "object", "properties": {f"p{number}": reference for number in range(10)}}
    return {"schemas": schemas}


@pytest.mark.parametrize(
    ("operation", "document", "problem"),
    [
        ({"parameters": [{"$ref": "other.yaml#/x"}]}, {}, "It refers to other.yaml#/x, which is not in the document."),
        ({"parameters": [{"$ref": "#/nowhere"}]}, {}, "It refers to #/nowhere, which the document does not have."),
        (body({"$ref": "http://127.0.0.1/x.json"}), {}, "It refers to http://127.0.0.1/x.json, which is not in the"),
        ({"parameters": [{"in": "query"}]}, {}, "A parameter has no name."),
        ({"parameters": [{"in": "body", "name": "a"}]}, {}, "The parameter a is in no place that HTTP has."),
        ({"parameters": [{"in": "cookie", "name": "a", "required": True}]}, {}, "It needs the cookie a, which"),
        (body({}, "multipart/form-data"), {}, "Its body is multipart/form-data; tools send JSON or forms."),
        (body(deep(100)), {}, "Its schema is too large for a model."),
        (body({"$ref": "#/components/schemas/S9"}), {"components": wide()}, "Its schema is too large for a model."),
        ({"requestBody": []}, {}, "It is not written as OpenAPI says ("),
        ({"requestBody": {"content": []}}, {}, ""),
        ({"parameters": [{"name": "a", "in": "query", "schema": 3}]}, {}, ""),
        ({"security": [{"gone": []}]}, {"components": []}, "It is not written as OpenAPI says ("),
        ({}, {"servers": [{"url": "/v1"}]}, "Its address /v1/x is not complete: name the base URL."),
        ({}, {"servers": []}, "Its address /x is not complete: name the base URL."),
    ],
)  # fmt: skip
def test_operation_that_cannot_be_a_tool_says_why(operation: Any, document: Any, problem: str) -> None:
    found = one(operation, **document)

    assert (found.problem[: len(problem)], bool(found.problem)) == (problem, bool(problem))


def test_reference_in_a_circle_ends() -> None:
    circle = {"parameters": {"a": {"$ref": "#/components/parameters/b"}, "b": {"$ref": "#/components/parameters/a"}}}

    assert one({"parameters": [{"$ref": "#/components/parameters/a"}]}, components=circle).problem == (
        "A reference leads round in a circle."
    )


@pytest.mark.parametrize(
    ("text", "beginning"),
    [
        ("", "The document is no object."),
        ("[1]", "The document is no object."),
        ("just text", "The document is no object."),
        ("{", "The document is neither JSON nor YAML: "),
        ("a: [", "The document is neither JSON nor YAML: "),
        ("{" * 5000, "The document is neither JSON nor YAML: "),
        ('a: !!python/object/apply:os.system ["true"]', "The document is neither JSON nor YAML: "),
        ("x: 1", "This is no OpenAPI document of version 3.0 or 3.1. The member 'openapi' is missing."),
        ('swagger: "2.0"', "This is no OpenAPI document of version 3.0 or 3.1."),
        ("openapi: 2.0.0", "This is no OpenAPI document of version 3.0 or 3.1. It says 2.0.0."),
        ("openapi: 3.10.0", "This is no OpenAPI document of version 3.0 or 3.1. It says 3.10.0."),
        ("openapi: 3.1.0", "The document has no paths, so there is nothing to call."),
        ("openapi: 3.1.0\npaths: []", "The document has no paths, so there is nothing to call."),
        ("x" * (openapi.MOST_BYTES + 1), "The document is larger than 2 MiB. Take out what you do not need."),
    ],
)
def test_bad_document_gives_one_sentence(text: str, beginning: str) -> None:
    with pytest.raises(NotImportable) as refused:
        read(text)

    assert str(refused.value).startswith(beginning)


def test_billion_laughs_in_yaml_are_not_laughed() -> None:
    lines = ["a0: &a0 {type: object, properties: {x: {}}}"]
    lines += [f"a{n}: &a{n} {{allOf: [{', '.join([f'*a{n - 1}'] * 9)}]}}" for n in range(1, 30)]
    lines += ["openapi: 3.1.0", "paths:", "  /x: {post: {requestBody: {content: {application/json: {schema: *a29}}}}}"]

    (found,) = read("\n".join(lines), base_url="https://a.b")

    assert found.problem == "Its schema is too large for a model."


# --- rows ------------------------------------------------------------------------------------------------------------


@pytest.mark.django_db
class TestImporting:
    def outcomes(self, **how: Any) -> dict[str, str]:
        how.setdefault("update", False)
        return {one.name: one.outcome for one in import_operations(read(PETS), **how)}

    def test_tools_are_made(self) -> None:
        assert set(self.outcomes(secret_headers={"X-Key": "abc"}).values()) == {"made"}

        listing = Tool.objects.get(name="listPets")
        assert (listing.kind, listing.method, listing.is_idempotent) == (Kind.HTTP, "GET", True)
        assert (listing.secret_headers, listing.allow_private_hosts) == ({"X-Key": "abc"}, False)
        assert Tool.objects.get(name="addPet").is_idempotent is False

    def test_second_import_skips_or_changes_nothing(self) -> None:
        self.outcomes()

        assert set(self.outcomes().values()) == {"skipped"}
        assert set(self.outcomes(update=True).values()) == {"unchanged"}

    def test_update_keeps_secrets_and_how_it_may_be_used(self) -> None:
        self.outcomes(secret_headers={"X-Key": "abc"})
        row = Tool.objects.get(name="listPets")
        row.url, row.needs_approval, row.enabled = "https://old.example.com/", True, False
        row.save()

        found = self.outcomes(update=True, secret_headers={"X-Key": "other"})

        row.refresh_from_db()
        assert (found["listPets"], found["addPet"]) == ("updated", "unchanged")
        assert (row.url[:30], row.needs_approval, row.enabled) == ("https://api.example.com/v1/pet", True, False)
        assert row.secret_headers == {"X-Key": "abc"}

    def test_tool_of_another_kind_is_not_replaced(self) -> None:
        Tool.objects.create(name="addPet", kind=Kind.LOCAL, function="apps.tools.examples.days_between")

        assert self.outcomes(update=True)["addPet"] == "refused"
        assert Tool.objects.get(name="addPet").kind == Kind.LOCAL

    def test_dry_run_stores_nothing(self) -> None:
        assert set(self.outcomes(dry_run=True).values()) == {"made"}
        assert Tool.objects.count() == 0

    def test_history_has_no_secret(self) -> None:
        from auditlog.models import LogEntry

        self.outcomes(secret_headers={"X-Key": "very-secret"})

        entries = LogEntry.objects.get_for_model(Tool)
        told = {one.field: one.new for entry in entries for one in changes(entry)}
        assert told["encrypted_headers"] == "•••"
        assert "very-secret" not in str([entry.changes_dict for entry in entries])


@pytest.mark.django_db
class TestCommand:
    def run(self, *arguments: Any) -> str:
        out = StringIO()
        call_command("import_openapi", *arguments, stdout=out)
        return out.getvalue()

    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        path = tmp_path / "pets.yaml"
        path.write_text(PETS)
        return path

    def test_imports_what_is_named(self, file: Path) -> None:
        assert self.run(file, "--prefix", "pets_", "--only", "pets_addPet") == "made       pets_addPet\n1 made.\n"
        assert [tool.name for tool in Tool.objects.all()] == ["pets_addPet"]

    def test_dry_run_says_so(self, file: Path) -> None:
        assert self.run(file, "--dry-run").endswith("4 made; nothing was stored.\n")
        assert Tool.objects.count() == 0

    @pytest.mark.parametrize(
        ("arguments", "reason"),
        [
            (["--only", "nothing"], "The document has no operation that would be called nothing."),
            (["--base-url", "box"], "A base URL looks like https://api.example.com/v1."),
        ],
    )
    def test_what_is_wrong_is_said(self, file: Path, arguments: list[str], reason: str) -> None:
        with pytest.raises(CommandError) as error:
            self.run(file, *arguments)
        assert str(error.value) == reason

    def test_file_that_is_none_is_said(self, tmp_path: Path) -> None:
        (tmp_path / "bad.json").write_text("{")
        for name in ("none.yaml", "bad.json"):
            with pytest.raises(CommandError) as error:
                self.run(tmp_path / name)
            assert str(error.value).startswith("The ")
