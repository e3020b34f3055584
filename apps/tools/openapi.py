"""An OpenAPI document (3.0, 3.1) as the HTTP tools that it describes.

Every operation becomes one flat set of arguments: those of the path, the query, the headers and the members of a JSON
body. References are followed within the document alone, and only so far.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from apps.tools.template import problem_with_url

MOST_BYTES: Final = 2 * 1024 * 1024
_MOST_NODES: Final = 20_000  # of one operation's schema; a document can write endless ones in a few lines
_DEEPEST: Final = 40
_METHODS: Final = ("get", "post", "put", "patch", "delete")
_FORM: Final = "application/x-www-form-urlencoded"
_NOT_FOR_MODELS: Final = frozenset(
    {"xml", "externalDocs", "discriminator", "example", "examples", "deprecated", "nullable", "readOnly", "writeOnly"}
)
_SET_BY_HTTP: Final = frozenset({"accept", "content-type", "authorization"})  # a parameter cannot: OpenAPI 3.1, 4.8.12

Json = dict[str, Any]


class NotImportable(Exception):
    """The document, or one operation of it. The message is one sentence that says why."""


@dataclass(frozen=True, slots=True)
class Operation:
    """What becomes a tool. `problem` says why it cannot; `remarks` say what an operator should know."""

    name: str
    method: str
    path: str
    description: str = ""
    url: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    problem: str = ""


def read(text: str, *, prefix: str = "", base_url: str = "") -> list[Operation]:
    """The operations of a document in JSON or YAML, each with a name of its own. Raises NotImportable."""
    document = _parsed(text)
    version = str(document.get("openapi", ""))
    if not re.match(r"3\.[01](\.|$)", version):
        said = f"It says {version[:20]}." if version else "The member 'openapi' is missing."
        raise NotImportable(f"This is no OpenAPI document of version 3.0 or 3.1. {said}")
    paths = document.get("paths")
    if not isinstance(paths, dict) or not paths:
        raise NotImportable("The document has no paths, so there is nothing to call.")
    return _with_own_names([_operation(document, one, prefix, base_url) for one in _listed(document, paths)])


def _parsed(text: str) -> Json:
    if len(text.encode(errors="replace")) > MOST_BYTES:
        raise NotImportable(
            f"The document is larger than {MOST_BYTES // 1024 // 1024} MiB. Take out what you do not need."
        )
    try:
        document = json.loads(text) if text.lstrip().startswith("{") else _yaml(text)
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise NotImportable(f"The document is neither JSON nor YAML: {reason}.") from error
    if not isinstance(document, dict):
        raise NotImportable("The document is no object. An OpenAPI document begins with: openapi: 3.1.0")
    return document


def _yaml(text: str) -> Any:
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast
    return yaml.load(text, Loader=loader)  # noqa: S506  # both are safe


@dataclass(frozen=True, slots=True)
class _Listed:
    path: str
    method: str
    item: Json
    operation: Json


def _listed(document: Json, paths: Json) -> Iterator[_Listed]:
    for path, item in paths.items():
        item = _resolved(document, item)  # noqa: PLW2901
        for method in _METHODS:
            if isinstance(item, dict) and isinstance(item.get(method), dict):
                yield _Listed(str(path), method, item, item[method])


def _with_own_names(operations: list[Operation]) -> list[Operation]:
    """Two of the same name would be one tool: the later gets a number."""
    taken: set[str] = set()
    named = []
    for one in operations:
        name, number = one.name, 2
        while name in taken:
            name, number = f"{one.name[:60]}_{number}", number + 1
        remarks = one.remarks if name == one.name else (*one.remarks, f"Called {name}: another one is {one.name}.")
        taken.add(name)
        named.append(_replaced(one, name=name, remarks=remarks))
    return named


def _replaced(one: Operation, **changes: Any) -> Operation:
    return Operation(**{name: getattr(one, name) for name in Operation.__slots__} | changes)


# --- one operation ---------------------------------------------------------------------------------------------------


def _operation(document: Json, listed: _Listed, prefix: str, base_url: str) -> Operation:
    operation = listed.operation
    called = str(operation.get("operationId") or f"{listed.method}_{listed.path}")
    name = re.sub(r"[^a-zA-Z0-9_-]+", "_", prefix + called).strip("_")[:64] or "operation"
    told = [str(operation.get(key, "")).strip() for key in ("summary", "description")]
    plain = Operation(
        name=name,
        method=listed.method.upper(),
        path=listed.path,
        description="\n".join(dict.fromkeys(filter(None, told)))[:2000],
    )
    try:
        return _filled(plain, document, listed, base_url)
    except NotImportable as error:
        return _replaced(plain, problem=str(error))
    except (AttributeError, TypeError, KeyError, ValueError, RecursionError) as error:
        # Whoever wrote a list where an object belongs: the format has too many places to ask at each.
        return _replaced(plain, problem=f"It is not written as OpenAPI says ({str(error)[:100]}).")


def _filled(plain: Operation, document: Json, listed: _Listed, base_url: str) -> Operation:
    arguments = _Arguments(document)
    path, query, headers = listed.path, [], {}
    for parameter in _parameters(document, listed):
        place, name = parameter["in"], str(parameter["name"])
        if place == "header" and name.lower() in _SET_BY_HTTP:
            continue
        if place == "cookie":
            _refuse_needed_cookie(parameter, name)
            continue
        hole = "{" + arguments.add(name, place, parameter) + "}"
        if place == "path":
            path = path.replace("{" + name + "}", hole)
        elif place == "query":
            query.append(f"{_query_name(name)}={hole}")
        else:
            headers[name] = hole
    body = _body(document, listed.operation, arguments, headers)
    url = (base_url or _server(document, listed)).rstrip("/") + path + (f"?{'&'.join(query)}" if query else "")
    if problem := problem_with_url(url):
        raise NotImportable(problem if base_url else f"Its address {url[:100]} is not complete: name the base URL.")
    return _replaced(
        plain,
        url=url,
        headers=headers,
        body=body,
        parameters=arguments.schema(),
        remarks=(*arguments.remarks, *_security(document, listed.operation)),
    )


def _query_name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._~$:@!*-]", lambda one: "".join(f"%{byte:02X}" for byte in one[0].encode()), name)


def _refuse_needed_cookie(parameter: Json, name: str) -> None:
    if parameter.get("required"):
        raise NotImportable(f"It needs the cookie {name}, which a tool does not send.")


def _parameters(document: Json, listed: _Listed) -> list[Json]:
    """The operation's own before those of its path."""
    found: dict[tuple[str, str], Json] = {}
    for holder in (listed.item, listed.operation):
        given = holder.get("parameters", [])
        for one in given if isinstance(given, list) else []:
            parameter = _resolved(document, one)
            if not isinstance(parameter, dict) or "name" not in parameter:
                raise NotImportable("A parameter has no name.")
            if parameter.get("in") not in ("path", "query", "header", "cookie"):
                raise NotImportable(f"The parameter {parameter['name']} is in no place that HTTP has.")
            found[parameter["in"], str(parameter["name"])] = parameter
    for name in re.findall(r"\{([^{}]+)\}", listed.path):  # not all documents describe each
        found.setdefault(("path", name), {"name": name, "in": "path", "schema": {"type": "string"}})
    return list(found.values())


def _server(document: Json, listed: _Listed) -> str:
    for holder in (listed.operation, listed.item, document):
        servers = holder.get("servers")
        if isinstance(servers, list) and servers and isinstance(servers[0], dict):
            variables = servers[0].get("variables") or {}
            url = str(servers[0].get("url", ""))
            for name, variable in variables.items():
                url = url.replace("{" + str(name) + "}", str(variable.get("default", "")))
            return url
    return ""


def _security(document: Json, operation: Json) -> Iterator[str]:
    """What its requests have to prove, for the operator, who has the secret."""
    schemes = document.get("components", {}).get("securitySchemes", {})
    required = operation.get("security", document.get("security")) or []
    for name in dict.fromkeys(name for one in required if isinstance(one, dict) for name in one):
        scheme = _resolved(document, schemes.get(name, {}))
        where = f"the header {scheme.get('name')}" if scheme.get("in") == "header" else "the header Authorization"
        place = f"its {scheme['in']}" if scheme.get("in") in ("query", "cookie") else where
        yield f"Needs a secret in {place} ({name})."


# --- its body --------------------------------------------------------------------------------------------------------


def _body(document: Json, operation: Json, arguments: "_Arguments", headers: dict[str, str]) -> Any:
    """The template of it; None without one."""
    if "requestBody" not in operation:
        return None
    request = _resolved(document, operation["requestBody"])
    content = request.get("content") or {}
    kind = next((one for one in content if re.match(r"application/([\w.+-]*\+)?json\b", one)), None)
    kind = kind or next((one for one in content if one.startswith(_FORM)), None)
    if kind is None:
        if not request.get("required"):
            return None
        raise NotImportable(f"Its body is {', '.join(content) or 'of no kind'}; tools send JSON or forms.")
    if not kind.startswith("application/json"):
        headers["Content-Type"] = kind
    schema = arguments.schema_of((content[kind] or {}).get("schema", {}))
    members = schema.get("properties")
    if schema.get("type", "object") != "object" or not members:
        name = arguments.add("body", "body", {"required": request.get("required")}, schema)
        return "{" + name + "}"
    needed = schema.get("required", []) if request.get("required", True) else []
    return {
        member: "{" + arguments.add(member, "body", {"required": member in needed}, value) + "}"
        for member, value in members.items()
    }


class _Arguments:
    """Those of one operation, each with a name that no other has and every model can write."""

    def __init__(self, document: Json) -> None:
        self._document = document
        self._properties: Json = {}
        self._required: list[str] = []
        self._nodes = 0
        self.remarks: list[str] = []

    def add(self, name: str, place: str, parameter: Json, schema: Json | None = None) -> str:
        """The name that it has as an argument."""
        plain = re.sub(r"[^A-Za-z0-9_.-]+", "_", name).strip("_.-") or place
        plain = plain if re.match(r"[A-Za-z_]", plain) else f"{place}_{plain}"
        argument, number = plain[:64], 2
        if argument in self._properties:
            argument = f"{place}_{plain}"[:64]
        while argument in self._properties:
            argument, number = f"{place}_{plain}"[:60] + f"_{number}", number + 1
        if argument != name:
            self.remarks.append(f"'{name}' of its {place} is the argument {argument}.")
        self._properties[argument] = self._described(parameter, schema)
        if parameter.get("required") or place == "path":
            self._required.append(argument)
        return argument

    def _described(self, parameter: Json, schema: Json | None) -> Json:
        if schema is None:
            content: Json = next(iter((parameter.get("content") or {}).values()), {})
            schema = self.schema_of(parameter.get("schema") or content.get("schema", {}))
        about = str(parameter.get("description", "")).strip()
        return {**schema, "description": about} if about else schema

    def schema(self) -> Json:
        return {
            "type": "object",
            "properties": self._properties,
            "required": self._required,
            "additionalProperties": False,
        }

    def schema_of(self, schema: Any) -> Json:
        """Without references, in draft 2020-12. Raises NotImportable."""
        plain = self._plain(schema, ())
        return plain if isinstance(plain, dict) else {}

    def _plain(self, schema: Any, within: tuple[str, ...]) -> Any:
        self._nodes += 1
        if self._nodes > _MOST_NODES or len(within) > _DEEPEST:
            raise NotImportable("Its schema is too large for a model.")
        if not isinstance(schema, dict):
            return schema
        if isinstance(reference := schema.get("$ref"), str):
            if reference in within:
                return {"description": "The same again."}  # a tree: any depth, which no model needs
            beside = {name: value for name, value in schema.items() if name != "$ref"}
            return self._plain({**_one(self._document, reference), **beside}, (*within, reference))
        return self._members(_modern(schema), (*within, ""))

    def _members(self, schema: Json, within: tuple[str, ...]) -> Json:
        plain: Json = {}
        for name, value in schema.items():
            if name in ("properties", "patternProperties", "$defs", "dependentSchemas") and isinstance(value, dict):
                plain[name] = {
                    member: self._plain(one, within) for member, one in value.items() if not _is_read_only(one)
                }
            elif name in ("allOf", "anyOf", "oneOf", "prefixItems") and isinstance(value, list):
                plain[name] = [self._plain(one, within) for one in value]
            elif isinstance(value, dict) and name not in ("default", "const"):
                plain[name] = self._plain(value, within)
            else:
                plain[name] = value
        return _merged(plain)


def _is_read_only(schema: Any) -> bool:
    return isinstance(schema, dict) and schema.get("readOnly") is True


def _modern(schema: Json) -> Json:
    """OpenAPI 3.0's own words in JSON schema's."""
    plain = {name: value for name, value in schema.items() if name not in _NOT_FOR_MODELS and not name.startswith("x-")}
    if schema.get("nullable") is True and isinstance(plain.get("type"), str):
        plain["type"] = [plain["type"], "null"]
        if "enum" in plain and None not in plain["enum"]:
            plain["enum"] = [*plain["enum"], None]
    for bound, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        is_exclusive = plain.pop(exclusive) if isinstance(plain.get(exclusive), bool) else False
        if is_exclusive and bound in plain:
            plain[exclusive] = plain.pop(bound)
    hidden = {name for name, one in (schema.get("properties") or {}).items() if _is_read_only(one)}
    if hidden and isinstance(plain.get("required"), list):
        plain["required"] = [name for name in plain["required"] if name not in hidden]
    return plain


def _merged(schema: Json) -> Json:
    """`allOf` of objects is one object, whose members can be arguments."""
    parts = schema.get("allOf")
    if not parts or not all(isinstance(one, dict) and one.get("properties") for one in parts):
        return schema
    rest = {name: value for name, value in schema.items() if name != "allOf"}
    together: Json = {"type": "object", "properties": {}, "required": []}
    for part in [*parts, rest]:
        together["properties"] |= part.get("properties", {})
        together["required"] += [name for name in part.get("required", []) if name not in together["required"]]
    return {**rest, **together}


# --- references ------------------------------------------------------------------------------------------------------


def _resolved(document: Json, value: Any) -> Any:
    """What a reference object stands for. Raises NotImportable."""
    for _ in range(_DEEPEST):
        reference = value.get("$ref") if isinstance(value, dict) else None
        if not isinstance(reference, str):
            return value
        value = _one(document, reference)
    raise NotImportable("A reference leads round in a circle.")


def _one(document: Json, reference: str) -> Json:
    if not reference.startswith("#/"):
        raise NotImportable(f"It refers to {reference[:100]}, which is not in the document. Bundle it into one file.")
    found: Any = document
    for part in reference[2:].split("/"):
        key = part.replace("~1", "/").replace("~0", "~")
        if not isinstance(found, dict) or key not in found:
            raise NotImportable(f"It refers to {reference[:100]}, which the document does not have.")
        found = found[key]
    if not isinstance(found, dict):
        raise NotImportable(f"What {reference[:100]} stands for is no object.")
    return found
