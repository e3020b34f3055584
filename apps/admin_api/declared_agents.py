"""/admin/agents/declared: agents that operators define, with no code."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.db import transaction
from django.db.models import Max, QuerySet
from django.http import HttpRequest
from ninja import Path, Query, Router, Schema, Status
from pydantic import AfterValidator, ConfigDict, Field, StringConstraints

from apps.admin_api.answers import NOT_FOUND, REFUSALS, Body, Page, Paging, Text, page
from apps.admin_api.authentication import OperatorAuth
from apps.catalog import declared_checks, declared_trial, declared_versions
from apps.catalog.declared_trial import Remark
from apps.catalog.diagnostics import Problem
from apps.catalog.models import LONGEST_RUN, DeclaredAgent, DeclaredVersion
from apps.core.errors import InvalidRequest, NotFound
from apps.upstreams.models import Upstream

router = Router()


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("a text has no NUL character in it")
    return text


# Not by a pattern, as short texts are: whoever makes requests from the description would take seconds for a long one.
LongText = Annotated[str, StringConstraints(max_length=100_000), AfterValidator(_without_nul)]
Texts = Annotated[
    list[Annotated[str, StringConstraints(max_length=200), AfterValidator(_without_nul)]], Field(max_length=200)
]
Stage = Literal["draft", "live", "disabled"]
Number = Annotated[int, Field(ge=1, le=2**31 - 1)]

_EXAMPLE: dict[str, Any] = {
    "namespace": "default",
    "name": "helpdesk",
    "title": "Help desk",
    "description": "Answers questions about our printers.",
    "instructions": "You help {{user}} with printers. Today is {{date}}.",
    "upstream": "ollama",
    "model": "qwen3:8b",
    "parameters": {"temperature": 0.2},
    "tools": ["search", "tickets_*"],
    "tool_choice": "auto",
    "parallel_tool_calls": None,
    "response_format": None,
    "max_turns": 6,
    "run_timeout": 120,
    "on_disconnect": "cancel",
    "listed": True,
    "greeting": "What is wrong with it?",
    "icon": "🖨️",
    "tags": ["support"],
    "aliases": ["printers"],
    "stage": "draft",
}


class DeclaredFields(Body):
    """What is left out is as in a new agent."""

    title: Text = Field("", description="What chat UIs show; the name without it.")
    description: LongText = ""
    instructions: LongText = Field("", description="The system message; {{date}}, {{user}} and others are filled in.")
    upstream: Text = Field("", description="The name of an upstream; empty: whichever has the model.")
    model: Text = Field("", description="A model, or a name that a route is for; empty: the default.")
    parameters: dict[str, Any] = Field({}, description="Of a chat completion, unless a request says otherwise.")
    tools: Texts = Field([], description="Names of tools, and globs over them.")
    tool_choice: Text = Field("auto", description="auto, required, none, or the name of one of its tools.")
    parallel_tool_calls: bool | None = None
    response_format: dict[str, Any] | None = None
    max_turns: Number | None = Field(None, description="Model calls of a run at most.")
    run_timeout: float | None = Field(None, ge=1, le=LONGEST_RUN, description="Seconds for a whole run.")
    on_disconnect: Literal["cancel", "drain"] = Field("cancel", description="When the client leaves.")
    listed: bool = True
    greeting: LongText = ""
    icon: LongText = ""
    tags: Texts = []
    aliases: Texts = []
    stage: Stage = Field("draft", description="Only live ones answer clients.")


class NewDeclared(DeclaredFields):
    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    namespace: Text = "default"
    name: Text = Field(min_length=1)


class DeclaredChange(DeclaredFields):
    """What is left out stays as it is."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"stage": "live"}, {"model": "gpt-5", "upstream": ""}]})

    namespace: Text = "default"
    name: Text = Field("", min_length=1)


class ProblemShown(Schema):
    code: str
    severity: Literal["error", "warning"]
    reason: str
    remedy: str


class DeclaredShown(DeclaredFields):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "default/helpdesk",
                    **_EXAMPLE,
                    "version": 3,
                    "created_at": "2026-11-25T12:00:00Z",
                    "changed_at": "2026-11-25T12:30:00Z",
                    "problems": [],
                }
            ]
        }
    )

    id: str
    namespace: str
    name: str
    version: int
    created_at: datetime
    changed_at: datetime
    problems: list[ProblemShown] = Field(description="Why it does not do as it should, now.")


class RemarkShown(Schema):
    is_good: bool
    text: str


class Saved(Schema):
    """`remarks` are what the agent's server said of its model and tools, and what is to be mended."""

    agent: DeclaredShown
    remarks: list[RemarkShown]


class VersionShown(Schema):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "number": 2,
                    "author": "ann",
                    "at": "2026-11-25T12:30:00Z",
                    "changes": [{"field": "model", "old": "gpt-4.1", "new": "gpt-5"}],
                    "values": _EXAMPLE,
                }
            ]
        }
    )

    number: int
    author: str
    at: datetime
    changes: list["FieldChanged"] = Field(description="Since the version before.")
    values: dict[str, Any]


class FieldChanged(Schema):
    field: str
    old: Any
    new: Any


class DeclaredFilter(Schema):
    stage: Stage | None = None
    namespace: Text | None = None


@router.get(
    "/admin/agents/declared",
    response={200: Page[DeclaredShown], **REFUSALS},
    auth=OperatorAuth("catalog.view_declaredagent"),
    summary="The declared agents",
)
def list_declared(request: HttpRequest, wanted: Query[DeclaredFilter], paging: Query[Paging]) -> Page[DeclaredShown]:  # noqa: ARG001
    """Drafts and disabled ones too, by their ids."""
    given = {name: value for name, value in wanted.dict().items() if value is not None}
    found, total = page(_agents().filter(**given), paging)
    judge = declared_checks.judge_in_force()
    # Not judged by the bounds of what is taken here: forms and files of configuration take more.
    return Page[DeclaredShown].model_construct(data=[_shown(row, judge) for row in found], total=total)


@router.post(
    "/admin/agents/declared",
    response={201: Saved, **REFUSALS},
    auth=OperatorAuth("catalog.add_declaredagent"),
    summary="Declare an agent",
)
def create_declared(request: HttpRequest, wanted: NewDeclared) -> Status[Saved]:  # noqa: ARG001
    """A draft unless `stage` says otherwise. Its server is asked about model and tools, for 20 seconds at most."""
    return Status(201, _saved(DeclaredAgent(), wanted.dict()))


@router.get(
    "/admin/agents/declared/{namespace}/{name}",
    response={200: DeclaredShown, **REFUSALS, **NOT_FOUND},
    auth=OperatorAuth("catalog.view_declaredagent"),
    summary="A declared agent",
)
def get_declared(request: HttpRequest, namespace: Path[Text], name: Path[Text]) -> DeclaredShown:  # noqa: ARG001
    """With what keeps it from doing as it should."""
    return _shown(_agent(namespace, name), declared_checks.judge_in_force())


@router.put(
    "/admin/agents/declared/{namespace}/{name}",
    response={200: Saved, **REFUSALS, **NOT_FOUND},
    auth=OperatorAuth("catalog.change_declaredagent"),
    summary="Replace a declared agent",
)
def replace_declared(request: HttpRequest, namespace: Path[Text], name: Path[Text], wanted: DeclaredFields) -> Saved:  # noqa: ARG001
    """What is left out becomes as in a new agent; its id stays."""
    return _saved(_agent(namespace, name), wanted.dict())


@router.patch(
    "/admin/agents/declared/{namespace}/{name}",
    response={200: Saved, **REFUSALS, **NOT_FOUND},
    auth=OperatorAuth("catalog.change_declaredagent"),
    summary="Change a declared agent",
)
def change_declared(request: HttpRequest, namespace: Path[Text], name: Path[Text], wanted: DeclaredChange) -> Saved:  # noqa: ARG001
    """What is left out stays. `{"stage": "live"}` publishes it; a new `namespace` or `name` makes it another id."""
    return _saved(_agent(namespace, name), wanted.dict(exclude_unset=True))


@router.delete(
    "/admin/agents/declared/{namespace}/{name}",
    response={200: DeclaredShown, **REFUSALS, **NOT_FOUND},
    auth=OperatorAuth("catalog.delete_declaredagent"),
    summary="Delete a declared agent",
)
def delete_declared(request: HttpRequest, namespace: Path[Text], name: Path[Text]) -> DeclaredShown:  # noqa: ARG001
    """With its versions. The answer is what it was, and so is what stays in /security/changes."""
    agent = _agent(namespace, name)
    was = _shown(agent, declared_checks.judge_in_force())
    agent.delete()
    return was


@router.get(
    "/admin/agents/declared/{namespace}/{name}/versions",
    response={200: Page[VersionShown], **REFUSALS, **NOT_FOUND},
    auth=OperatorAuth("catalog.view_declaredagent"),
    summary="What a declared agent was",
)
def list_versions(request: HttpRequest, namespace: Path[Text], name: Path[Text]) -> dict[str, Any]:  # noqa: ARG001
    """The latest first, with who made it and what it changed."""
    steps = list(declared_versions.steps(_agent(namespace, name), most=DeclaredVersion.MOST))
    return {"data": [_version(one) for one in steps], "total": len(steps)}


@router.post(
    "/admin/agents/declared/{namespace}/{name}/versions/{number}/return",
    response={200: Saved, **REFUSALS, **NOT_FOUND},
    auth=OperatorAuth("catalog.change_declaredagent"),
    summary="Return to a version",
)
def return_to_version(request: HttpRequest, namespace: Path[Text], name: Path[Text], number: Path[Number]) -> Saved:  # noqa: ARG001
    """It becomes what it was then, as a new version. Its id and its stage stay."""
    agent = _agent(namespace, name)
    version = agent.versions.filter(number=number).first()
    if version is None:
        raise NotFound(f"There is no version {number} of {agent.agent_id}.", param="number")
    try:
        lost = declared_versions.return_to(agent, version)
    except ValidationError as error:
        raise _refusal(error) from error
    return _answer(agent, [*(Remark(False, text) for text in lost), *declared_trial.judge(agent)])


def _agents() -> QuerySet[Any]:
    """Each knows the number of its newest version."""
    rows: QuerySet[Any] = DeclaredAgent.objects.select_related("upstream").annotate(newest=Max("versions__number"))
    return rows.order_by("namespace", "name")


def _agent(namespace: str, name: str) -> DeclaredAgent:
    """Raises NotFound."""
    found: DeclaredAgent | None = _agents().filter(namespace=namespace, name=name).first()
    if found is None:
        raise NotFound(f"There is no declared agent {namespace}/{name}.", param="name")
    return found


def _saved(agent: DeclaredAgent, given: Mapping[str, Any]) -> Saved:
    """Raises InvalidRequest."""
    for name, value in given.items():
        setattr(agent, name, _upstream(value) if name == "upstream" else value)
    try:
        with transaction.atomic():
            agent.full_clean()
            declared_checks.check(agent)
            agent.save()
    except ValidationError as error:
        raise _refusal(error) from error
    return _answer(agent, declared_trial.judge(agent))


def _upstream(slug: str) -> Upstream | None:
    """Raises InvalidRequest."""
    found: Upstream | None = Upstream.objects.filter(slug=slug).first() if slug else None
    if slug and found is None:
        raise InvalidRequest(f"There is no upstream '{slug}'.", param="upstream")
    return found


def _refusal(error: ValidationError) -> InvalidRequest:
    """All that is wrong, in sentences; `param` is the first field's."""
    by_field = error.message_dict
    first = next(iter(by_field))
    sentences = (
        sentence if field == NON_FIELD_ERRORS else f"{field}: {sentence}"
        for field, found in by_field.items()
        for sentence in found
    )
    return InvalidRequest(" ".join(sentences), param=None if first == NON_FIELD_ERRORS else first)


def _answer(agent: DeclaredAgent, remarks: list[Remark]) -> Saved:
    return Saved(
        agent=_shown(_agents().get(pk=agent.pk), declared_checks.judge_in_force()),
        remarks=[RemarkShown(is_good=one.is_good, text=one.text) for one in remarks],
    )


def _shown(agent: Any, judge: Callable[[DeclaredAgent], tuple[Problem, ...]]) -> DeclaredShown:
    return DeclaredShown.model_construct(
        **agent.values(),
        id=agent.agent_id,
        version=agent.newest or 0,
        created_at=agent.created_at,
        changed_at=agent.changed_at,
        problems=[_problem(one) for one in judge(agent)],
    )


def _problem(one: Problem) -> ProblemShown:
    return ProblemShown(code=one.code, severity=one.severity, reason=one.reason, remedy=one.remedy)


def _version(step: declared_versions.Step) -> VersionShown:
    version = step.version
    changes = [FieldChanged(field=one.field, old=one.old, new=one.new) for one in step.changes]
    return VersionShown(
        number=version.number, author=version.author, at=version.at, changes=changes, values=version.values
    )
