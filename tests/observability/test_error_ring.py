"""The ring of failures: equal ones counted, redacted, bounded; whatever the values are."""

from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from apps.observability import context, error_ring, remembered
from apps.observability.models import ErrorEvent
from apps.observability.requests import request_id

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _nothing_waits() -> Iterator[None]:
    written()
    ErrorEvent.objects.all().delete()
    context.begin()
    yield
    request_id.set("")


def written() -> list[ErrorEvent]:
    """What is in the ring once nothing waits."""
    error_ring.start()
    assert error_ring.stop() == 0
    return list(ErrorEvent.objects.order_by("pk"))


def note(stage: str = "execute", **other: Any) -> None:
    error_ring.note(stage, **{"code": "agent_error", "message": "It failed.", "subject": "default/a", **other})


def test_equal_failures_are_one_row_with_the_latest_facts() -> None:
    for number in range(3):
        request_id.set(f"req-{number}")
        note(message=f"No answer in {number}.5 s from 0x7f{number}a (chatcmpl-{number:032x}).", last={"run_id": number})
    (row,) = written()
    request_id.set("req-later")
    note(message="No answer in 9 s from 0x7fff (chatcmpl-0123456789abcdef0123456789abcdef).", remedy="Wait longer.")
    (later,) = written()

    assert (row.count, row.request_id, row.facts) == (3, "req-2", {"run_id": 2})
    assert (later.pk, later.count, later.request_id, later.remedy) == (row.pk, 4, "req-later", "Wait longer.")
    assert later.first_at < later.last_at


def test_what_differs_to_an_operator_is_another_row() -> None:
    note()
    for other in (
        {"stage": "stream"}, {"code": "tool_error"}, {"subject": "default/b"}, {"facts": {"upstream": "llm"}},
        {"message": "The server said 500."}, {"message": "The server said 502."},
    ):  # fmt: skip
        note(**other)

    assert [row.count for row in written()] == [1] * 7


def test_traceback_is_that_of_the_first_time_without_local_variables_and_masked() -> None:
    def fail(number: int) -> None:
        password_of_nobody = f"local {number}"
        raise ValueError(f"refused with sk-proj-0123456789abcdef, {password_of_nobody[:5]}")

    for number in (1, 2):
        try:
            fail(number)
        except ValueError as error:
            note(error=error, message=str(error), subject="traced")

    (row,) = written()
    assert row.traceback.startswith("Traceback (most recent call last):")
    assert row.traceback.rstrip().endswith("ValueError: refused with •••, local")
    assert ("local 1" in row.traceback, row.message) == (False, "refused with •••, local")


@pytest.mark.parametrize(
    "odd", ["nul \0 and half \ud83d", "x" * 100_000, "password=hunter2"], ids=["unstorable", "huge", "secret"]
)
def test_any_text_can_be_noted(odd: str) -> None:
    error_ring.note(odd, code=odd, message=odd, subject=odd, remedy=odd, facts={"odd": odd, odd: {"deep": [odd]}})

    (row,) = written()
    told = f"{row.message} {row.subject} {row.remedy} {row.facts}"
    assert ("hunter2" in told, "\0" in told, len(told) < 40_000) == (False, False, True)


def test_exception_that_refuses_to_be_shown_is_noted() -> None:
    class Refuses(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    note(error=Refuses(), facts={"error": Refuses()}, subject="refusing")

    (row,) = written()
    assert "Refuses" in row.traceback


def test_flood_is_counted_exactly_and_bounded() -> None:
    for number in range(error_ring.WAITING + 50):
        note(subject=f"s{number}")
    for _ in range(1000):
        note(subject="s0")

    rows = written()
    assert (len(rows), rows[0].count, sum(row.count for row in rows)) == (
        error_ring.WAITING, 1001, error_ring.WAITING + 1000,
    )  # fmt: skip


def test_oldest_go_when_there_are_more_than_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(error_ring, "KEPT", 3)
    for subject in ("a", "b", "c"):
        note(subject=subject)
        written()
    note(subject="a")  # again: now it is the latest
    note(subject="d")

    assert [row.subject for row in written()] == ["a", "c", "d"]


def test_line_that_stands_under_errors_becomes_a_row() -> None:
    log = structlog.get_logger("apps.tests.ring")
    with context.bound(stage="resolve"):
        log.error("request_crashed", path="/v1/x", exc_info=KeyError("missing"))
    log.warning("mcp_server_lost", server="box", reason="It went away.")
    log.error("rows_not_written", writer="error-ring", count=1, error="locked", again_in=1)  # its own would never end

    crashed, lost = written()
    assert (crashed.stage, crashed.code, crashed.subject) == ("resolve", "request_crashed", "/v1/x")
    assert (crashed.message, crashed.traceback.strip()) == ("KeyError: 'missing'", "KeyError: 'missing'")
    assert (lost.stage, lost.subject, lost.message) == ("execute", "box", "It went away.")
    assert crashed.remedy
    assert lost.remedy


def test_line_says_the_stage_that_the_row_does() -> None:
    lines = [
        {"event": "rows_not_written", "writer": "error-ring"},
        {"event": "database_away", "stage": "resolve"},
        {"event": "database_away"},
        {"event": "mcp_server_lost", "server": "box", "stage": "resolve"},
        {"event": "agent_loaded"},
    ]

    stages = [remembered.remember(None, "", {**line}).get("stage") for line in lines]

    assert stages == ["record", "resolve", "execute", "execute", None]
