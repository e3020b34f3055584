"""What a tool, or the OAuth of an MCP server, has to be before it is stored, and what a tool gets without being asked:
the same for form and import."""

import re
from collections.abc import Mapping
from typing import Any, Final

import jmespath
from jmespath.exceptions import JMESPathError

from apps.tools import local, models, template
from apps.tools.arguments import problem_with_schema
from apps.tools.models import Kind
from apps.tools.redaction import looks_secret

_HEADER: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110
_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*")


def problems(row: models.Tool) -> dict[str, str]:
    """By the field that is to be mended, a sentence each; none for a tool that can be stored."""
    found = {
        Kind.LOCAL: _of_local,
        Kind.HTTP: _of_http,
        Kind.MCP: _of_mcp,
    }[Kind(row.kind)](row)
    if row.kind != Kind.LOCAL and row.parameters != {}:  # a function's is read from it
        found["parameters"] = problem_with_schema(row.parameters) or found.get("parameters", "")
    return {name: sentence for name, sentence in found.items() if sentence}


def complete(row: models.Tool) -> None:
    """Fill in the schema, where it follows from what else the tool says."""
    if row.kind == Kind.LOCAL:
        function = local.find(row.function)
        row.name = row.name or function.name
        row.parameters = dict(function.parameters)
    elif row.kind == Kind.HTTP and not row.parameters:
        row.parameters = schema_of_holes(row)


def _of_mcp(row: models.Tool) -> dict[str, str]:
    if row.server_id and row.remote_name:
        return {}
    return {"kind": "A tool of an MCP server is made by reading the server's list: add the server."}


def _of_local(row: models.Tool) -> dict[str, str]:
    if not row.function:
        return {"function": "Name the function by its dotted path, such as my_tools.forecast."}
    try:
        local.find(row.function, again=True)
    except local.FunctionUnusable as error:
        return {"function": str(error)}
    return {}


def _of_http(row: models.Tool) -> dict[str, str]:
    url = template.problem_with_url(row.url)
    return {
        "url": url or problem_with_holes(row),
        "headers": problem_with_headers(row.headers) or _open_secret(row.headers),
        "extract": _problem_with_extract(row.extract),
    }


def problem_with_holes(row: models.Tool) -> str:
    """Whether URL and headers name an argument that the schema does not have."""
    if not row.parameters or problem_with_schema(row.parameters):
        return ""  # it is made from them, or is told of itself
    known = row.parameters.get("properties", {})
    named = [*template.holes(row.url), *template.holes(row.headers)]
    if missing := next((one for one in named if one not in known), None):
        return f"{{{missing}}} is no argument of the schema. Add it to the properties there, or take it out here."
    return ""


def schema_of_holes(row: models.Tool) -> dict[str, Any]:
    """Texts, of which the path cannot do without its own."""
    in_path, _ = template.holes_of_url(row.url)
    names = dict.fromkeys([*template.holes(row.url), *template.holes(row.headers), *template.holes(row.body)])
    return {
        "type": "object",
        "properties": {name: {"type": "string"} for name in names},
        "required": in_path,
        "additionalProperties": False,
    }


def problem_with_headers(headers: Any) -> str:
    """Whether these are names and values that HTTP can carry."""
    if not isinstance(headers, dict):
        return 'Headers are an object: {"Accept-Language": "en"}.'
    for name, value in headers.items():
        if not _HEADER.fullmatch(name):
            return f"“{name}” is no name of a header: letters, digits and - only."
        if not isinstance(value, str) or not _VALUE.fullmatch(value):
            return f"The value of {name} has to be one line of text."
    return ""


def problems_with_oauth(oauth: Mapping[str, str]) -> dict[str, str]:
    """Of client credentials as McpServer.oauth has them, by the member that is to be mended."""
    found = {
        name: "OAuth needs both the client's id and its secret."
        for name in ("client_id", "client_secret")
        if not oauth.get(name)
    }
    if not names_who_gets_the_secret(oauth):
        found |= {"token_url": "Name it, or the issuer: else the MCP server would say who gets the client's secret."}
    return found


def names_who_gets_the_secret(oauth: Mapping[str, str]) -> bool:
    return bool(oauth.get("token_url") or oauth.get("issuer"))


def _open_secret(headers: Mapping[str, Any]) -> str:
    if secret := next((name for name in headers if looks_secret(name)), None):
        return f"{secret} belongs to the secret headers, which are stored encrypted and never shown."
    return ""


def _problem_with_extract(expression: str) -> str:
    try:
        jmespath.compile(expression or "@")
    except JMESPathError as error:
        reason = str(error).partition("\n")[0].rstrip(".:")
        return f"This is no JMESPath ({reason}); it looks like items[].title."
    return ""
