"""What was noted of a run as rows, and what becomes of it when there is too much."""

from collections.abc import Iterator
from datetime import UTC, datetime
from time import perf_counter
from typing import Any

import pytest

from apps.core.write_behind import BatchWriter
from apps.execution import keeping, steps
from apps.execution.models import Outcome, Run, RunStep, StepKind
from apps.execution.step_rows import Recorded, write_steps
from apps.execution.steps import MOST_STEPS, StepLog, current_steps
from apps.execution.tool_records import Source, under_way
from apps.upstreams.calls import CallLog, current_step
from tests.factories import RunFactory

pytestmark = pytest.mark.django_db
STARTED_AT = datetime(2026, 11, 25, 12, tzinfo=UTC)


@pytest.fixture
def log() -> Iterator[StepLog]:
    """Of the run that goes on here."""
    made = StepLog()
    tokens = current_steps.set(made), current_step.set(None)
    yield made
    current_steps.reset(tokens[0])
    current_step.reset(tokens[1])


def _nothing(_batches: list[list[Recorded]]) -> None:
    return


def run(**fields: Any) -> Run:
    made: Run = RunFactory.build(started_at=STARTED_AT, duration_ms=60_000, **fields)
    return made


def test_steps_are_numbered_in_the_order_in_which_they_began(log: StepLog) -> None:
    began = perf_counter()
    calls = CallLog()
    first = calls.begin("llm", "small")
    first.end()
    with under_way(Source.LOCAL, "outer", "tools.outer"):
        inner = calls.begin("llm", "big")
        inner.end(ValueError("no \0 answer; password=hunter2"))
    recorded = Recorded(run(), began, calls.calls, log, "chat")

    write_steps([recorded])
    write_steps([recorded])  # a batch whose answer was lost is written again

    rows = list(RunStep.objects.values_list("number", "parent", "kind", "name", "outcome", "error"))
    assert rows == [
        (1, None, "model", "small", "ok", ""),
        (2, None, "tool", "outer", "ok", ""),
        (3, 2, "model", "big", "error", "no  answer; password=•••"),
    ]
    assert RunStep.objects.get(number=2).detail == {"source": "gateway-local", "module": "tools.outer"}


def test_steps_beyond_the_bound_are_counted(log: StepLog) -> None:
    for _ in range(MOST_STEPS + 3):
        steps.note(StepKind.TOOL, "again", "ok")
    calls = CallLog()
    calls.begin("llm", "m").end()

    write_steps([Recorded(run(), perf_counter(), calls.calls, log, "chat")])

    assert RunStep.objects.count() == MOST_STEPS + 1
    assert RunStep.objects.last().detail["steps_left_out"] == 3  # type: ignore[union-attr]
    assert not RunStep.objects.exclude(number=MOST_STEPS + 1).filter(detail__has_key="steps_left_out").exists()


def test_what_goes_on_when_the_run_ends_was_cut_off(log: StepLog) -> None:
    calls = CallLog()
    calls.begin("llm", "m")
    steps.begin(StepKind.AGENT, "A")

    write_steps([Recorded(run(outcome=Outcome.CANCELLED), perf_counter(), calls.calls, log, "chat")])

    assert set(RunStep.objects.values_list("kind", "outcome")) == {("model", "cancelled"), ("agent", "cancelled")}


def test_steps_that_nobody_can_write_are_dropped_and_counted_and_their_runs_are_not(
    log: StepLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps.note(StepKind.TOOL, "one", "ok")
    steps.note(StepKind.TOOL, "two", "ok")
    behind: BatchWriter[list[Recorded]] = BatchWriter("steps", _nothing, capacity=1)  # and it has not begun
    monkeypatch.setattr(keeping, "steps", behind)

    for _ in range(3):
        keeping._write([Recorded(run(), perf_counter(), [], log, "chat")])

    assert Run.objects.count() == 3
    assert behind.dropped == 4
