"""The plain fields of a request body. A value that OpenAI's API refuses is a DemoRequestError that names its field."""

from collections.abc import Mapping
from typing import Any

from apps.upstreams.demo.errors import DemoRequestError

Body = Mapping[str, Any]


def check_n(body: Body) -> None:
    if body.get("n") not in (None, 1):
        raise DemoRequestError("The demo upstream gives one answer: leave out `n`, or set it to 1.", param="n")


def max_words(body: Body) -> int | None:
    """The limit on the answer's words, None without one."""
    for name in ("max_completion_tokens", "max_tokens"):
        given = body.get(name)
        if given is None:
            continue
        if not isinstance(given, int) or isinstance(given, bool) or given < 1:
            raise DemoRequestError(f"`{name}` must be a whole number of 1 or more.", param=name)
        return given
    return None


def stops(body: Body) -> list[str]:
    """The texts that end the answer."""
    given = body.get("stop")
    found = [given] if isinstance(given, str) else listed(body, "stop")
    if not all(isinstance(stop, str) and stop for stop in found):
        raise DemoRequestError("`stop` must be a text or a list of texts, none of them empty.", param="stop")
    return found


def listed(given: Mapping[str, Any], name: str, where: str = "") -> list[Any]:
    """The list under this name, an empty one when there is none. `where` is the field that holds it."""
    value = given.get(name)
    if value is None or isinstance(value, list):
        return value or []
    param = f"{where}.{name}" if where else name
    raise DemoRequestError(f"`{param}` must be a list.", param=param)


def wants_usage(body: Body) -> bool:
    """Whether a stream is to end with its usage."""
    options = body.get("stream_options")
    return isinstance(options, Mapping) and bool(options.get("include_usage"))


def response_format(body: Body) -> Mapping[str, Any]:
    given = body.get("response_format")
    return given if isinstance(given, Mapping) else {}


def wants_json(body: Body) -> bool:
    return response_format(body).get("type") in ("json_schema", "json_object")
