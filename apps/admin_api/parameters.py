"""Query parameters that an operation does not have are refused: misspelt, a filter would answer with what nobody asked
for."""

import difflib
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any, get_type_hints

from django.http import HttpRequest
from ninja.params.models import Query
from pydantic import BaseModel

from apps.core.errors import InvalidRequest

_LONGEST = 100  # characters of a name that is quoted


def refuse_unknown(view: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator for a router: its views take the parameters of their `Query[...]` arguments and no others."""
    known = sorted(_names(view))

    @wraps(view)
    def checked(request: HttpRequest, *args: Any, **values: Any) -> Any:
        for name in request.GET:
            if name not in known:
                raise InvalidRequest(_told(name[:_LONGEST], known), param=name[:_LONGEST])
        return view(request, *args, **values)

    return checked


def _names(view: Callable[..., Any]) -> Iterator[str]:
    for hint in get_type_hints(view, include_extras=True).values():
        if any(isinstance(one, Query) for one in getattr(hint, "__metadata__", ())):
            schema: type[BaseModel] = hint.__origin__
            yield from schema.model_fields


def _told(name: str, known: list[str]) -> str:
    said = f"There is no query parameter '{name}' here."
    if not known:
        return f"{said} There are none."
    near = difflib.get_close_matches(name, known, n=1)
    return f"{said} Did you mean '{near[0]}'?" if near else f"{said} There are {', '.join(known)}."
