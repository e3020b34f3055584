"""Which process does a thing that must not be done twice at once: a row, taken by one conditional UPDATE."""

from typing import Any, TypeVar

from django.db import models
from django.db.models import Q

M = TypeVar("M", bound=models.Model)


class ClaimQuerySet(models.QuerySet[M]):
    """Of a model whose rows are claims."""

    def take(self, pk: Any, *, free: Q, **held: Any) -> bool:
        """Whether the caller has this row now; of many at once, in whichever processes, one has.

        `free` says how others must have left it, `held` is how it is while the caller has it and must not be `free`. A
        row that is not there yet is free.
        """
        if self.filter(free, pk=pk).update(**held):
            return True
        return self.get_or_create(pk=pk, defaults=held)[1]
