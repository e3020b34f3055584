"""/admin/runs: what was run, and one run with its steps."""

from datetime import datetime
from typing import Annotated, Any, Literal

from django.http import HttpRequest
from ninja import Path, Query, Router, Schema
from pydantic import AwareDatetime, ConfigDict, Field, StringConstraints

from apps.admin_api.answers import NOT_FOUND, REFUSALS, RowId, Text
from apps.admin_api.authentication import OperatorAuth
from apps.core.errors import InvalidRequest, NotFound
from apps.execution import run_search
from apps.execution.models import Outcome, Run, RunStep, StepKind
from apps.execution.run_search import Place, Wanted
from apps.execution.step_rows import steps_of
from apps.execution.turns import turns

router = Router()

MOST_STEPS = 1000  # of a run that are told

# Written out in place: schemas share one space of names in the description.
OutcomeName = Literal["completed", "refused", "failed", "cancelled", "waiting"]
OutcomeShown = Annotated[str, Field(json_schema_extra={"enum": list(Outcome.values)})]
KindOfStep = Annotated[str, Field(json_schema_extra={"enum": list(StepKind.values)})]
Id = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^[^\x00]+$")]

_EXAMPLE: dict[str, Any] = {
    "id": "chatcmpl-9f86d081884c7d659a2feaa0c55ad015",
    "request_id": "req_7f83b1657ff1fc53b92dc18148a1d65d",
    "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
    "agent": "default/concierge",
    "version": "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae",
    "key": {"id": 12, "name": "Open WebUI"},
    "user": {"id": "u-7", "name": "ann@example.com"},
    "upstream": "gpu-box",
    "model": "qwen3-30b",
    "streamed": True,
    "outcome": "failed",
    "finish_reason": "",
    "error": {"code": "upstream_timeout", "message": "The upstream 'gpu-box' sent nothing for 30 s."},
    "started_at": "2026-11-25T12:00:00Z",
    "first_event_ms": 812.4,
    "duration_ms": 31_204.9,
    "model_calls": 2,
    "prompt_tokens": 1204,
    "completion_tokens": 87,
    "tokens_estimated": False,
    "cost_usd": 0.0021,
}
_STEP: dict[str, Any] = {
    "number": 2,
    "parent": 1,
    "kind": "model",
    "name": "qwen3-30b",
    "turn": 1,
    "outcome": "ok",
    "began_ms": 3.1,
    "duration_ms": 1180.2,
    "error": "",
    "detail": {"upstream": "gpu-box", "prompt_tokens": 602, "completion_tokens": 40},
    "input": None,
    "output": None,
}


class KeyOfRun(Schema):
    """As it was called then; it may be gone."""

    id: int
    name: str


class PersonOfRun(Schema):
    id: str
    name: str


class ErrorOfRun(Schema):
    code: str
    message: str


class RunShown(Schema):
    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    id: str
    request_id: str = Field(description="As the answer's header X-Request-Id had it.")
    trace_id: str
    agent: str
    version: str = Field(description="The digest of the agent's version that ran; empty for models as they are.")
    key: KeyOfRun | None
    user: PersonOfRun | None = Field(description="The person behind the key, where the front end told it.")
    upstream: str
    model: str = Field(description="That answered.")
    streamed: bool
    outcome: OutcomeShown
    finish_reason: str
    error: ErrorOfRun | None
    started_at: datetime
    first_event_ms: float | None = Field(description="Until the first event that a client sees.")
    duration_ms: float
    model_calls: int
    prompt_tokens: int
    completion_tokens: int
    tokens_estimated: bool = Field(description="A server reported no usage for at least one call.")
    cost_usd: float | None = Field(description="By the prices of that time; null where no model has one.")


class StepOfRun(Schema):
    number: int = Field(description="In the order in which they began, from 1.")
    parent: int | None = Field(description="The number of the step that it was made in.")
    kind: KindOfStep
    name: str = Field(description="The agent's, model's or tool's; a handoff's target.")
    turn: int | None = Field(
        description="Of a model call: which turn of its conversation, from 1. A handoff goes on with the count."
    )
    outcome: str
    began_ms: float = Field(description="After the run began.")
    duration_ms: float | None
    error: str
    detail: dict[str, Any] = Field(description="Such as tokens, upstream, source.")
    input: str | None = Field(description="Redacted; null unless the recording of contents was on.")
    output: str | None


class RunWithSteps(RunShown):
    model_config = ConfigDict(json_schema_extra={"examples": [{**_EXAMPLE, "steps": [_STEP], "has_more_steps": False}]})

    steps: list[StepOfRun] = Field(description="Empty when they are purged already, or could not be kept.")
    has_more_steps: bool = Field(description=f"Only the first {MOST_STEPS} are told.")


class Runs(Schema):
    model_config = ConfigDict(json_schema_extra={"examples": [{"data": [_EXAMPLE], "has_more": False, "next": None}]})

    data: list[RunShown]
    has_more: bool
    next: str | None = Field(description="The `cursor` of the next page; null on the last one.")


class RunFilter(Schema):
    agent: Text | None = Field(None, description="An agent id.")
    key_id: RowId | None = None
    user: Text | None = Field(None, description="The id of the person behind the key.")
    outcome: OutcomeName | None = None
    request_id: Text | None = Field(None, description="As the answer's header X-Request-Id had it.")
    upstream: Text | None = None
    model: Text | None = Field(None, description="That answered, by its exact name.")
    streamed: bool | None = None
    since: AwareDatetime | None = Field(None, description="Those that began then or later.")
    until: AwareDatetime | None = Field(None, description="Those that began before.")
    q: Text | None = Field(None, description="A part of the error's code or text; only failed runs are looked through.")


class RunPaging(Schema):
    limit: int = Field(50, ge=1, le=500, description="Runs of a page.")
    cursor: Text | None = Field(None, description="The `next` of the page before.")


@router.get(
    "/admin/runs",
    response={200: Runs, **REFUSALS},
    auth=OperatorAuth("execution.view_run"),
    summary="What was run",
)
def list_runs(request: HttpRequest, wanted: Query[RunFilter], paging: Query[RunPaging]) -> Runs:  # noqa: ARG001
    """The latest first, a second after they ended. Runs are not counted: there may be millions."""
    given = wanted.dict()
    asked = Wanted(agent_id=given.pop("agent"), user_id=given.pop("user"), text=given.pop("q"), **given)
    part = run_search.find(asked, limit=paging.limit, after=_place(paging.cursor))
    return Runs(
        data=[RunShown(**_values(run)) for run in part.runs],
        has_more=part.after is not None,
        next=part.after.cursor if part.after else None,
    )


@router.get(
    "/admin/runs/{run_id}",
    response={200: RunWithSteps, **REFUSALS, **NOT_FOUND},
    auth=OperatorAuth("execution.view_run"),
    summary="A run with its steps",
)
def get_run(request: HttpRequest, run_id: Path[Id]) -> RunWithSteps:  # noqa: ARG001
    """By its id, which clients know as the id of the answer. Contents are there if their recording was on."""
    run = Run.objects.filter(pk=run_id).first()
    if run is None:
        raise NotFound(f"There is no run {run_id}. Runs are kept as the admin says under Recording.", param="run_id")
    steps = steps_of(run, MOST_STEPS + 1)
    of_calls = turns(steps)
    return RunWithSteps(
        **_values(run),
        steps=[_step(one, of_calls.get(one.number)) for one in steps[:MOST_STEPS]],
        has_more_steps=len(steps) > MOST_STEPS,
    )


def _place(cursor: str | None) -> Place | None:
    """Raises InvalidRequest."""
    try:
        return Place.read(cursor) if cursor else None
    except ValueError as error:
        raise InvalidRequest("This is no cursor: take `next` of the page before.", param="cursor") from error


_AS_THEY_ARE = (
    "id", "request_id", "trace_id", "upstream", "model", "streamed", "outcome", "finish_reason", "started_at",
    "first_event_ms", "duration_ms", "model_calls", "prompt_tokens", "completion_tokens", "tokens_estimated",
    "cost_usd",
)  # fmt: skip


def _values(run: Run) -> dict[str, Any]:
    return {
        **{name: getattr(run, name) for name in _AS_THEY_ARE},
        "agent": run.agent_id,
        "version": run.agent_digest,
        "key": KeyOfRun(id=run.key_id, name=run.key_name) if run.key_id is not None else None,
        "user": PersonOfRun(id=run.user_id, name=run.user_name) if run.user_id else None,
        "error": ErrorOfRun(code=run.error_code, message=run.error) if run.error_code or run.error else None,
    }


def _step(one: RunStep, turn: int | None) -> StepOfRun:
    plain = ("number", "parent", "kind", "name", "outcome", "began_ms", "duration_ms", "error", "detail")
    values = {name: getattr(one, name) for name in plain}
    return StepOfRun(**values, turn=turn, input=one.input or None, output=one.output or None)
