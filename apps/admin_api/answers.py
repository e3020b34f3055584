"""What the operators' API has in common: bodies, pages, and how a refusal looks."""

from typing import Annotated, Any, Generic, TypeVar

from django.db.models import QuerySet
from ninja import Schema
from pydantic import ConfigDict, Field, StringConstraints

from apps.openai_api.schemas import ErrorBody

T = TypeVar("T")

REFUSALS = dict.fromkeys((400, 401, 403, 413, 429, 503), ErrorBody)
NOT_FOUND = {404: ErrorBody}

# PostgreSQL takes no NUL in a text, and nothing that is looked for has one.
Text = Annotated[str, StringConstraints(max_length=200, pattern=r"^[^\x00]*$")]
RowId = Annotated[int, Field(ge=1, le=2**63 - 1)]


class Body(Schema):
    """What an operator sends. A member that is not known is refused: misspelt, it would change what is asked for."""

    model_config = ConfigDict(extra="forbid")


class Paging(Schema):
    limit: int = Field(50, ge=1, le=500, description="Rows of a page.")
    offset: int = Field(0, ge=0, le=1_000_000, description="Rows before the page.")


class Page(Schema, Generic[T]):
    """`total` counts the rows of all pages."""

    data: list[T]
    total: int


def page(rows: QuerySet[Any], paging: Paging) -> tuple[list[Any], int]:
    """The rows of a page, and how many there are altogether. Two queries."""
    return list(rows[paging.offset : paging.offset + paging.limit]), rows.count()
