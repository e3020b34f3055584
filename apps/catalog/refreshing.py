"""Looking at the discovery folders because an operator asks: they share a look, and learn what it changed."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from apps.catalog import registry
from apps.catalog.kinds import kind_of
from apps.catalog.models import State
from apps.catalog.registry import Entry
from apps.core import live_config
from apps.core.joined import Joined


@dataclass(frozen=True, slots=True)
class Refreshed:
    """Ids of drop-ins. What `failed` goes on with its last good version, if it has one."""

    added: tuple[str, ...] = ()
    reloaded: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()


def _look() -> Refreshed:
    live_config.refresh()
    before = _drop_ins()
    changes = registry.refresh()
    after = _drop_ins()
    return Refreshed(
        added=_sorted(after.keys() - before.keys()),
        reloaded=_sorted(id for id in after.keys() & before.keys() if _is_other(before[id], after[id])),
        removed=_sorted(before.keys() - after.keys()),
        failed=_sorted({*changes.failed, *(id for id in after if _has_failed(before.get(id), after[id]))}),
    )


_joined = Joined(_look)


def refresh() -> Refreshed:
    """Load what changed in the folders and in the configuration, now, in this process; others follow by themselves.

    Takes as long as the modules take to import; blocks the calling thread. Raises DatabaseError.
    """
    return _joined()


def _drop_ins() -> Mapping[str, Entry]:
    return {id: one for id, one in registry.entries().items() if kind_of(one) == "drop_in"}


def _is_other(before: Entry, after: Entry) -> bool:
    return after.generation is not None and after.generation is not before.generation


def _has_failed(before: Entry | None, after: Entry) -> bool:
    """Whether it fails now, and did not, or for other reasons."""
    problems = before.problems if before and before.state == after.state else None
    return after.state != State.LIVE and after.problems != problems


def _sorted(ids: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(ids))
