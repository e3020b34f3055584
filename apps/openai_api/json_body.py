"""The body of a request as ninja has it, without a detour there that costs a fiftieth of a whole answer."""

from typing import Any

from django.http import HttpRequest
from ninja import NinjaAPI
from ninja.params.models import Body, BodyModel


class _Parsed(BodyModel):
    @classmethod
    def resolve(cls, request: HttpRequest, api: NinjaAPI, path_params: dict[str, Any]) -> Any:
        """As a dict. ninja gives what comes back to `dict.update`, which looks in a pydantic model for methods that it
        does not have."""
        return vars(super().resolve(request, api, path_params))


class JsonBody(Body):  # type: ignore[misc]  # as ninja does itself, although pydantic calls the class final
    """`body: Annotated[Schema, JsonBody(...)]` in a route. Raises what ninja's `Body` does."""

    _model = _Parsed

    @classmethod
    def _param_source(cls) -> str:
        return "body"  # ninja takes it from the name of the class
