"""The versions of a declared agent: what changed from one to the next, and the way back."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import unified_diff
from typing import Any, Final

from django.core.exceptions import FieldDoesNotExist
from django.db import transaction

from apps.catalog.declared_checks import check
from apps.catalog.models import DeclaredAgent, DeclaredVersion
from apps.core import json
from apps.core.ages import age
from apps.upstreams.models import Upstream

# What it is called and whether it serves: a return to a version leaves that alone.
LEFT_ALONE: Final = ("namespace", "name", "stage")


@dataclass(frozen=True, slots=True)
class FieldChange:
    """Of one field; `lines` are a unified diff where both are long texts, without its head."""

    field: str
    old: Any
    new: Any
    lines: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        return self.field.replace("_", " ").capitalize()

    @property
    def old_shown(self) -> str:
        return _shown(self.old)

    @property
    def new_shown(self) -> str:
        return _shown(self.new)


def _shown(value: Any) -> str:
    if value in (None, "", [], {}):
        return "nothing"
    return value if isinstance(value, str) else json.encode(value).decode()


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[FieldChange]:
    """In the order of the model's fields. A field that one of them does not know has not changed."""
    return [_change(name, old[name], new[name]) for name in new if name in old and old[name] != new[name]]


def _change(name: str, old: Any, new: Any) -> FieldChange:
    before, after = _lines(old), _lines(new)
    is_long = len(before) > 1 or len(after) > 1
    return FieldChange(
        name, old, new, tuple(list(unified_diff(before, after, lineterm="", n=2))[2:]) if is_long else ()
    )


def _lines(value: Any) -> Sequence[str]:
    return value.splitlines() if isinstance(value, str) else [json.encode(value).decode()]


@dataclass(frozen=True, slots=True)
class Step:
    """A version, and what it changed from the one before; of the oldest that is kept, nothing is known to compare."""

    version: DeclaredVersion
    changes: tuple[FieldChange, ...]
    is_first: bool
    is_current: bool

    @property
    def made_for(self) -> str:
        """How long it is there, such as 3 hours."""
        return age(self.version.at)


def steps(agent: DeclaredAgent, *, most: int = 50) -> Iterator[Step]:
    """The latest first."""
    rows = list(agent.versions.all()[: most + 1])
    for number, row in enumerate(rows[:most]):
        before = rows[number + 1] if number + 1 < len(rows) else None
        changes = tuple(differences(before.values, row.values)) if before else ()
        yield Step(row, changes, is_first=before is None, is_current=number == 0)


def return_to(agent: DeclaredAgent, version: DeclaredVersion) -> list[str]:
    """Make it what it was then, as a new version. Returns sentences about what could not be had back.

    Raises ValidationError when it may no longer be so, such as with an alias that another agent has by now.
    """
    values = {name: value for name, value in version.values.items() if name not in LEFT_ALONE}
    slug = values.pop("upstream", "")
    for name, value in values.items():
        if _is_field(name):
            setattr(agent, name, value)
    agent.upstream = Upstream.objects.filter(slug=slug).first() if slug else None
    with transaction.atomic():
        agent.full_clean()
        check(agent)
        agent.save()
    return [f"The upstream '{slug}' is gone: whichever has the model answers."] if slug and not agent.upstream else []


def _is_field(name: str) -> bool:
    try:
        DeclaredAgent._meta.get_field(name)  # noqa: SLF001  # Django documents it
    except FieldDoesNotExist:  # a version from before an upgrade
        return False
    return True
