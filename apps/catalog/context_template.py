"""The run context that a module's own program gives to Runner, as the pattern of those that its runs get."""

import copy
from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema


class ContextTemplate:
    """Called, it gives a copy. Stands where the context's class would, for pydantic too."""

    def __init__(self, context: Any) -> None:
        self._context = context
        self.__name__ = type(context).__name__

    def __call__(self) -> Any:
        return copy.deepcopy(self._context)

    def __get_pydantic_core_schema__(self, _: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return handler.generate_schema(type(self._context))


def template_of(context: Any) -> ContextTemplate | None:
    """None without a context, or where it cannot be copied: it holds a lock, or a connection."""
    if context is None:
        return None
    template = ContextTemplate(context)
    try:
        template()
    except Exception:  # noqa: BLE001  # the module's own classes: whatever they raise, the answer is no
        return None
    return template
