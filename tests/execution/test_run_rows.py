"""The short way to a row that is not stored yet."""

from apps.core.clock import now
from apps.execution.models import Outcome, Run


def test_run_that_has_begun_is_as_the_constructor_makes_it() -> None:
    known = {"id": "chatcmpl-1", "agent_id": "a/b", "started_at": now(), "outcome": Outcome.CANCELLED, "key_id": 1}

    begun, made = Run.begun(**known), Run(**known)

    assert begun.__dict__.keys() == made.__dict__.keys()
    columns = [field.attname for field in Run._meta.concrete_fields]
    assert [getattr(begun, name) for name in columns] == [getattr(made, name) for name in columns]
    assert (begun._state.adding, begun._state.db) == (made._state.adding, made._state.db)


def test_defaults_of_a_run_cannot_be_changed_by_another() -> None:
    fields = [
        field for field in Run._meta.concrete_fields if not isinstance(field.get_default(), str | int | float | None)
    ]

    assert fields == []
