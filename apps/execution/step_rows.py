"""Steps of runs as rows."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final, NamedTuple

from django.db import connection, transaction

from apps.core.json import encode
from apps.core.redaction import redacted
from apps.core.rows import insert
from apps.execution.models import Outcome, Run, RunStep, StepKind
from apps.execution.recorded_text import Keeper, answer_of, text_of
from apps.execution.recording import fitting
from apps.execution.steps import ERROR, OK, Step, StepLog
from apps.observability.trace_context import Parent
from apps.upstreams.calls import ModelCall

_COLUMNS: Final = (
    "run_id", "number", "parent", "kind", "name", "outcome", "began_ms", "duration_ms", "error", "detail", "input",
    "output", "run_started_at",
)  # fmt: skip
_TABLE: Final = RunStep._meta.db_table  # noqa: SLF001  # Django documents it
_IN_A_TRANSACTION: Final = 2_000  # rows: other writers wait meanwhile on SQLite
_LONGEST_ERROR: Final = 1_000  # characters
_CUT_SHORT: Final = (Outcome.CANCELLED, Outcome.FAILED)

Row = tuple[Any, ...]


class Recorded(NamedTuple):
    """A run that has ended, and all that it did. It began at perf_counter's `began`, in the client's span `parent`;
    `operation` is what OpenTelemetry calls it."""

    run: Run
    began: float
    calls: list[ModelCall]
    steps: StepLog
    operation: str
    parent: Parent | None = None


class Told(NamedTuple):
    """A step as it is told outside of the process. Times are milliseconds, `began` after the run."""

    number: int
    within: int | None
    step: Step | ModelCall
    kind: StepKind
    name: str
    outcome: str
    began: float
    took: float
    error: str
    detail: dict[str, Any]


def write_steps(recorded: Sequence[Recorded]) -> None:
    """Insert the steps of these runs that are not there yet. Raises DatabaseError."""
    most = max(one.steps.keeps for one in recorded)
    keeper = Keeper(most) if most else None
    rows = (row for one in recorded for row in rows_of(one, keeper))
    while batch := list(islice(rows, _IN_A_TRANSACTION)):
        with transaction.atomic():
            insert(_TABLE, _COLUMNS, batch, ending="ON CONFLICT DO NOTHING")


# --- runs that need no step ------------------------------------------------------------------------------------------


def is_plain(recorded: Recorded) -> bool:
    """Whether the run was one model call of which a step would say nothing that its row does not: most runs of models
    as they are and of declared agents. `plain_step` makes what such a step would be."""
    run, calls = recorded.run, recorded.calls
    if len(calls) != 1 or recorded.steps.steps or recorded.steps.keeps or run.outcome != Outcome.COMPLETED:
        return False
    (call,) = calls
    return call.attempts == 1 and not (call.error or call.cached_tokens or call.reasoning_tokens)


def plain_step(run: Run) -> RunStep:
    """The step of a run that is plain; it is not stored."""
    detail = _detail_of_call(
        run.upstream,
        run.prompt_tokens,
        run.completion_tokens,
        estimated=run.tokens_estimated,
        finish_reason=run.finish_reason,
        first_event_ms=run.first_event_ms,
    )
    return RunStep(
        run_id=run.pk, number=1, kind=StepKind.MODEL, name=run.model, outcome=OK, began_ms=0.0,
        duration_ms=run.duration_ms, detail=detail, run_started_at=run.started_at,
    )  # fmt: skip


def steps_of(run: Run, most: int) -> list[RunStep]:
    """In the order in which they began, `most` of them at most."""
    if run.is_plain:
        return [plain_step(run)]
    return list(RunStep.objects.filter(run_id=run.pk).order_by("number")[:most])


# --- what was noted, as rows ------------------------------------------------------------------------------------------


def rows_of(recorded: Recorded, keeper: Keeper | None = None) -> Iterator[Row]:
    """In the order of RunStep's columns here. `keeper` makes texts of contents, where the run recorded them."""
    started_at = connection.ops.adapt_datetimefield_value(recorded.run.started_at)
    for one in told(recorded):
        yield (
            recorded.run.id,
            one.number,
            one.within,
            one.kind.value,
            one.name,
            one.outcome,
            one.began,
            one.took,
            one.error,
            encode(one.detail).decode(),
            *(_contents(one.step, keeper) if keeper and recorded.steps.keeps else ("", "")),
            started_at,
        )


def told(recorded: Recorded) -> Iterator[Told]:
    """In the order in which they began."""
    noted: list[Step | ModelCall] = [*recorded.steps.steps, *recorded.calls]
    if len(noted) > 1:
        noted.sort(key=_began)
    numbers = {id(one): number for number, one in enumerate(noted, start=1)}
    end = recorded.began + recorded.run.duration_ms / 1000  # what was cancelled may end a moment later
    last = len(noted) if recorded.steps.left_out else 0
    for number, one in enumerate(noted, start=1):
        detail = dict(_detail(one))
        if number == last:
            detail["steps_left_out"] = recorded.steps.left_out
        yield Told(
            number,
            numbers.get(id(one.within)),
            one,
            _kind(one),
            fitting(_name(one), 200),
            fitting(_outcome(one, recorded.run), 20),
            max(0.0, (one.began - recorded.began) * 1000),
            max(0.0, (min(one.ended or end, end) - one.began) * 1000),
            fitting(redacted(one.error[:_LONGEST_ERROR]), _LONGEST_ERROR) if one.error else "",
            detail,
        )


def _began(one: Step | ModelCall) -> float:
    return one.began


def _kind(one: Step | ModelCall) -> StepKind:
    return StepKind.MODEL if isinstance(one, ModelCall) else one.kind


def _name(one: Step | ModelCall) -> str:
    return one.model if isinstance(one, ModelCall) else one.name


def _outcome(one: Step | ModelCall, run: Run) -> str:
    if isinstance(one, Step):
        return one.outcome if one.ended is not None else "cancelled"
    if one.error:
        return ERROR
    was_cut = one.finish_reason is None and run.outcome in _CUT_SHORT
    return "cancelled" if was_cut or one.ended is None else OK


def _detail(one: Step | ModelCall) -> Mapping[str, Any]:
    if isinstance(one, Step):
        return one.detail
    detail = _detail_of_call(
        one.upstream,
        one.prompt_tokens,
        one.completion_tokens,
        estimated=one.estimated,
        finish_reason=one.finish_reason,
        first_event_ms=None if one.answered is None else (one.answered - one.began) * 1000,
    )
    if one.cached_tokens:
        detail["cached_tokens"] = one.cached_tokens
    if one.reasoning_tokens:
        detail["reasoning_tokens"] = one.reasoning_tokens
    if one.attempts != 1:
        detail["attempts"] = one.attempts
    return detail


def _detail_of_call(
    upstream: str,
    prompt_tokens: int,
    completion_tokens: int,
    *,
    estimated: bool,
    finish_reason: str | None,
    first_event_ms: float | None,
) -> dict[str, Any]:
    """Members that say nothing are left out."""
    detail: dict[str, Any] = {
        "upstream": upstream,
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
    }
    if estimated:
        detail["estimated"] = True
    if finish_reason:
        detail["finish_reason"] = finish_reason
    if first_event_ms is not None:
        detail["first_event_ms"] = round(first_event_ms, 1)
    return detail


def _contents(one: Step | ModelCall, keeper: Keeper) -> tuple[str, str]:
    if isinstance(one, Step):
        return _kept(keeper.both_ends(text_of(one.input))), _kept(keeper.beginning(text_of(one.output)))
    if one.heard is None:
        return "", ""
    return _kept(keeper.both_ends(text_of(one.heard.sent))), _kept(answer_of(one.heard, keeper))


def _kept(text: str) -> str:
    return fitting(text, None)
