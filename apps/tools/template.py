"""Templates with arguments in braces: the URL, the headers and the body of an HTTP tool.

Only what may vary does: scheme and host of a URL stand as they are written, and an argument can neither leave its
place in the path or query nor add to the headers.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote

from apps.core.json import encode
from apps.tools.tool import CallFailed

_HOLE: Final = re.compile(r"\{([A-Za-z_][A-Za-z0-9_.-]*)\}")
_URL: Final = re.compile(r"(https?://[^/?#\s{}@\\]+)(/[^?#\s\\]*)?(?:\?([^#\s]*))?", re.IGNORECASE)
_LITERAL: Final = "/:;,@!$&'()*+=%~-._"  # of a path, as it is written
_LITERAL_QUERY: Final = _LITERAL + "?[]"

Arguments = Mapping[str, Any]


def problem_with_url(template: str) -> str:
    """Why it is no URL template, in a sentence; empty when it is one."""
    if not _URL.fullmatch(template):
        return (
            "A URL template looks like https://api.example.com/items/{id}?q={query}: http or https, a host without "
            "arguments or user name, no spaces, no fragment."
        )
    if re.search(r"[{}]", _HOLE.sub("", template)):
        return "An argument in braces is a name of letters, digits, _ - and dots, such as {item_id}."
    return ""


def origin(template: str) -> str:
    """Scheme, host and port of a URL template without a problem."""
    match = _URL.fullmatch(template)
    assert match
    return match[1]


def holes_of_url(template: str) -> tuple[list[str], list[str]]:
    """The arguments in the path, which it cannot do without, and those in the query."""
    path, _, query = template.partition("?")
    return list(dict.fromkeys(_HOLE.findall(path))), list(dict.fromkeys(_HOLE.findall(query)))


def holes(template: Any) -> Iterator[str]:
    """The arguments anywhere in a template of JSON."""
    if isinstance(template, str):
        yield from _HOLE.findall(template)
    elif isinstance(template, dict):
        for value in template.values():
            yield from holes(value)
    elif isinstance(template, list):
        for value in template:
            yield from holes(value)


# --- URLs ------------------------------------------------------------------------------------------------------------


def fill_url(template: str, arguments: Arguments) -> str:
    """Path and query, percent-encoded, after the origin as it is written. Raises CallFailed."""
    match = _URL.fullmatch(template)
    if not match:
        raise CallFailed(problem_with_url(template), outcome="misconfigured")
    path = "/".join(_segment(one, arguments) for one in (match[2] or "/").split("/"))
    pairs = [filled for pair in (match[3] or "").split("&") for filled in _pairs(pair, arguments)]
    return match[1] + path + (f"?{'&'.join(pairs)}" if pairs else "")


def _segment(template: str, arguments: Arguments) -> str:
    filled = _HOLE.sub(lambda hole: _in_path(hole[1], arguments), quote(template, safe=_LITERAL + "{}"))
    if filled != template and filled in (".", ".."):
        raise CallFailed(f"'{filled}' is no value for a part of a path.", outcome="invalid_arguments")
    return filled


def _in_path(name: str, arguments: Arguments) -> str:
    value = arguments.get(name)
    text = ",".join(map(as_text, value)) if isinstance(value, list) else as_text(value)
    if not text:
        raise CallFailed(f"the argument '{name}' is needed, and must not be empty.", outcome="invalid_arguments")
    return _quoted(text)


def _pairs(template: str, arguments: Arguments) -> Iterator[str]:
    """`name={argument}`: nothing without the argument, and once for each value of a list."""
    if not template:
        return
    name, equals, value = template.partition("=")
    whole = _HOLE.fullmatch(value)
    values = arguments.get(whole[1]) if whole else None
    if whole and values is None:
        return
    for one in values if isinstance(values, list) else [values]:
        named = {**arguments, whole[1]: one} if whole else arguments
        yield _in_query(name, named) + equals + _in_query(value, named)


def _in_query(template: str, arguments: Arguments) -> str:
    literal = quote(template, safe=_LITERAL_QUERY + "{}")
    return _HOLE.sub(lambda hole: _quoted(as_text(arguments.get(hole[1]))), literal)


def query_of(arguments: Arguments) -> str:
    """Arguments that no template names, as a query."""
    pairs = (_pairs(f"{_quoted(name)}={{value}}", {"value": value}) for name, value in arguments.items())
    return "&".join(one for several in pairs for one in several)


def _quoted(text: str) -> str:
    return quote(text, safe="", errors="replace")


# --- headers and bodies ----------------------------------------------------------------------------------------------


def fill_headers(templates: Mapping[str, str], arguments: Arguments) -> dict[str, str]:
    """Those whose arguments are all there. Raises CallFailed for a value that no header can carry."""
    return {
        name: _in_header(name, str(template), arguments)
        for name, template in templates.items()
        if all(arguments.get(hole) is not None for hole in holes(str(template)))
    }


def _in_header(name: str, template: str, arguments: Arguments) -> str:
    filled = _HOLE.sub(lambda hole: as_text(arguments[hole[1]]), template)
    if any(ord(one) < 32 or ord(one) == 127 for one in filled):
        raise CallFailed(
            f"The header {name} cannot have line breaks or control characters.", outcome="invalid_arguments"
        )
    return filled


_ABSENT: Final = object()


def fill_json(template: Any, arguments: Arguments, known: frozenset[str]) -> Any:
    """A body. A text that is one argument becomes its value, of whatever type, and is left out without it; within a
    longer text it is written. Braces around a name that is not `known` are text: other languages have them too."""
    filled = _fill(template, arguments, known)
    return None if filled is _ABSENT else filled


def _fill(template: Any, arguments: Arguments, known: frozenset[str]) -> Any:
    if isinstance(template, dict):
        members = {name: _fill(value, arguments, known) for name, value in template.items()}
        return {name: value for name, value in members.items() if value is not _ABSENT}
    if isinstance(template, list):
        return [value for value in (_fill(one, arguments, known) for one in template) if value is not _ABSENT]
    return _fill_text(template, arguments, known) if isinstance(template, str) else template


def _fill_text(template: str, arguments: Arguments, known: frozenset[str]) -> Any:
    whole = _HOLE.fullmatch(template)
    if whole and whole[1] in known:
        return arguments.get(whole[1], _ABSENT)
    return _HOLE.sub(lambda hole: as_text(arguments.get(hole[1])) if hole[1] in known else hole[0], template)


def as_text(value: Any) -> str:
    """As it is written into a URL, a header or a text."""
    if value is None:
        return ""
    return value if isinstance(value, str) else encode(value).decode()
