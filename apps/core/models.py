"""ConfigVersion, and the base class of every model whose rows are configuration.

A change of a configuration row bumps two numbers in the same transaction: that of the whole configuration, and that of
the row's table. Every process sees the first within half a second, and reads anew what the second says (`live_config`).
"""

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Self, TypeVar, cast

from django.db import connection, models, transaction
from django.db.models import F


class ConfigVersion(models.Model):
    """A number that is only ever incremented: of one table, or of the whole configuration (`WHOLE`)."""

    WHOLE = ""

    name = models.CharField(max_length=100, primary_key=True, help_text="A table's, or empty for the whole.")
    number = models.BigIntegerField(default=0)

    def __str__(self) -> str:
        return f"version {self.number} of {self.name or 'the configuration'}"

    @classmethod
    def bump(cls, table: str) -> None:
        """Call inside the transaction of the change, so that nobody sees the numbers before the rows.

        That of the whole comes first: whoever changes several tables then holds its lock, and no two can wait for each
        other.
        """
        for name in (cls.WHOLE, table):
            if not cls.objects.filter(pk=name).update(number=F("number") + 1):
                cls.objects.update_or_create(pk=name, defaults={"number": 1})

    @classmethod
    def current(cls) -> int:
        """Asked for several times a second by every worker, so without the query builder, which is most of its cost."""
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT number FROM {cls._meta.db_table} WHERE name = %s", [cls.WHOLE])  # noqa: S608
            row = cursor.fetchone()
        return int(row[0]) if row else 0

    @classmethod
    def of_tables(cls) -> Mapping[str, int]:
        return dict(cls.objects.exclude(pk=cls.WHOLE).values_list("name", "number"))


M_co = TypeVar("M_co", bound=models.Model, covariant=True)


class ConfigQuerySet(models.QuerySet[M_co]):
    """Bumps the version also for the writes that pass by `save()`.

    `unpublished()` is for the fields a process writes about a row (last use, health): they are not configuration.
    """

    _publishes = True

    def unpublished(self) -> Self:
        clone = self.all()
        clone._publishes = False  # noqa: SLF001  # its own class
        return clone

    def _clone(self) -> Self:
        clone: Self = super()._clone()  # type: ignore[misc]  # Django's own hook, missing from the stubs
        clone._publishes = self._publishes
        return clone

    def _publish(self) -> None:
        if self._publishes:
            ConfigVersion.bump(self.model._meta.db_table)  # noqa: SLF001  # Django documents it

    def update(self, **kwargs: Any) -> int:
        with transaction.atomic():
            changed = super().update(**kwargs)
            self._publish()
        return changed

    update.alters_data = True  # type: ignore[attr-defined]

    def delete(self) -> tuple[int, dict[str, int]]:
        with transaction.atomic():
            deleted = super().delete()
            self._publish()
        return deleted

    delete.alters_data = True  # type: ignore[attr-defined]
    delete.queryset_only = True  # type: ignore[attr-defined]

    def bulk_create(self, objs: Iterable[Any], *args: Any, **kwargs: Any) -> list[Any]:
        with transaction.atomic():
            created: list[Any] = super().bulk_create(objs, *args, **kwargs)
            self._publish()
        return created


class ConfigModel(models.Model):
    """A row of configuration: saving or deleting it makes the change live in every worker within a second."""

    objects: ClassVar[models.Manager[Any]] = ConfigQuerySet.as_manager()

    class Meta:
        abstract = True

    def save(self, *args: Any, **kwargs: Any) -> None:
        with transaction.atomic():
            super().save(*args, **kwargs)
            ConfigVersion.bump(self._meta.db_table)

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        with transaction.atomic():
            deleted = super().delete(*args, **kwargs)
            ConfigVersion.bump(self._meta.db_table)
        return deleted


class ConfigRow(ConfigModel):
    """Settings that are one row."""

    ROW = 1

    class Meta:
        abstract = True

    @classmethod
    def row(cls) -> Self:
        """The one row, not yet saved when nobody has set anything."""
        return cast("Self", cls.objects.filter(pk=cls.ROW).first() or cls(pk=cls.ROW))
