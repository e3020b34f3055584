"""What may be saved of a declared agent: one judgement for the form, the API and imports.

`check` refuses; `remarks` are what an operator should know of an agent that may well be saved.
"""

import difflib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from django.core.exceptions import ValidationError

from apps.catalog.declared import declared
from apps.catalog.declared_problems import Judge
from apps.catalog.diagnostics import Problem
from apps.catalog.model_parameters import mistakes
from apps.catalog.models import AgentSettings, DeclaredAgent, DropIn, State
from apps.catalog.pass_through import offered
from apps.catalog.run_options import NAMESPACES
from apps.core import globs, live_config
from apps.tools.in_force import tools
from apps.upstreams.routing import upstreams

# What {{...}} in instructions may name, and what is put there; as declared runs fill it in.
VARIABLES: Final[Mapping[str, str]] = {
    "date": "today, such as 2026-11-25",
    "time": "now, such as 14:05",
    "weekday": "such as Wednesday",
    "user": "the name of the person who asks, where the chat UI tells it",
    "user_email": "the person's e-mail address",
    "agent": "the agent's own name",
}
ALIAS: Final = re.compile(r"[a-z0-9][a-z0-9._-]*(/[a-z0-9][a-z0-9._-]*)?")
TOOL: Final = re.compile(r"[A-Za-z0-9_*-]{1,64}")
_PLACEHOLDER = re.compile(r"\{\{\s*([^{}]*?)\s*\}\}")
_PICTURE = re.compile(r"(https?://|data:image/)\S+")
_LONGEST_EMOJI = 16  # code points: a family with skin tones takes eleven
_LONGEST_TAG = 40

_DECLARED_ID = "the id of a declared agent"

Mistakes = Iterator[tuple[str, str]]  # a field, and a sentence


def check(agent: DeclaredAgent) -> None:
    """Raises ValidationError with the sentences by field. Those of single fields are full_clean()'s business."""
    checks = (_storable, _parameters, _tools, _tool_choice, _response_format, _presentation, _names)
    _raise(mistake for check_one in checks for mistake in check_one(agent))


def check_settings(settings: AgentSettings) -> None:
    """The same of what operators set for an agent in a folder. Raises ValidationError."""
    taken = names_taken(without=settings)
    _raise([*_parameters(settings), *alias_mistakes(settings.aliases, settings.drop_in.agent_id, taken)])


def _raise(mistakes: Iterable[tuple[str, str]]) -> None:
    found: dict[str, list[str]] = {}
    for field, sentence in mistakes:
        found.setdefault(field, []).append(sentence)
    if found:
        raise ValidationError(found)


def _parameters(agent: DeclaredAgent | AgentSettings) -> Mistakes:
    yield from (("parameters", sentence) for sentence in mistakes(agent.parameters))


def _storable(agent: DeclaredAgent) -> Mistakes:
    """JSON that both databases take: PostgreSQL wants no NUL and no half characters, SQLite no infinity."""
    for field in ("parameters", "response_format", "tools", "tags", "aliases"):
        try:
            text = json.dumps(getattr(agent, field), allow_nan=False, ensure_ascii=False)
            text.encode()
        except (ValueError, TypeError):
            yield field, "It holds what is no JSON: NaN, infinity, or half a character."
            continue
        if "\\u0000" in text:
            yield field, "It holds a NUL character, which cannot be stored."


def _texts(value: object) -> list[str] | None:
    """None when it is no list of texts."""
    is_one = isinstance(value, list) and all(isinstance(one, str) and one.strip() for one in value)
    return value if is_one else None  # type: ignore[return-value]


# --- tools -----------------------------------------------------------------------------------------------------------


def _tools(agent: DeclaredAgent) -> Mistakes:
    names = _texts(agent.tools)
    if names is None:
        yield "tools", 'Tools are a list of names and globs: ["search", "github_*"].'
        return
    for name in names:
        if not TOOL.fullmatch(name):
            yield "tools", f"“{name}” is no tool's name, and no glob over names: letters, digits, _, - and stars."


def _tool_choice(agent: DeclaredAgent) -> Mistakes:
    choice, names = agent.tool_choice, _texts(agent.tools) or []
    if choice in ("auto", "none"):
        return
    if not names:
        yield "tool_choice", f"“{choice}” needs tools, and the agent has none."
    elif choice != "required" and not globs.matches(choice, names):
        yield "tool_choice", f"“{choice}” is none of its tools; it is auto, required, none, or the name of one."


# --- the answer's format ---------------------------------------------------------------------------------------------


def _response_format(agent: DeclaredAgent) -> Mistakes:
    if agent.response_format is not None and (sentence := _wrong_format(agent.response_format)):
        yield "response_format", sentence


def _wrong_format(value: Any) -> str:
    if not isinstance(value, dict):
        return 'A response format is a JSON object: {"type": "json_object"}.'
    kind = value.get("type")
    if kind in ("text", "json_object"):
        return ""
    if kind != "json_schema":
        return f"Its “type” is text, json_object or json_schema, not {kind!r}."
    schema = value.get("json_schema")
    if not isinstance(schema, dict) or not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", str(schema.get("name", ""))):
        return 'json_schema needs a name: {"type": "json_schema", "json_schema": {"name": "answer", "schema": {...}}}.'
    if not isinstance(schema.get("schema"), dict):
        return "json_schema needs the JSON schema itself, as the object “schema”."
    return ""


# --- what people see -------------------------------------------------------------------------------------------------


def _presentation(agent: DeclaredAgent) -> Mistakes:
    tags = _texts(agent.tags)
    if tags is None:
        yield "tags", 'Tags are a list of words: ["support", "internal"].'
    elif long := [tag for tag in tags if len(tag) > _LONGEST_TAG]:
        yield "tags", f"“{long[0]}” is longer than {_LONGEST_TAG} characters."
    icon = agent.icon
    if icon and not _PICTURE.fullmatch(icon) and (len(icon) > _LONGEST_EMOJI or icon.isascii()):
        yield "icon", "An icon is an emoji, or the URL of a picture that begins with https://."


# --- names -----------------------------------------------------------------------------------------------------------


def _names(agent: DeclaredAgent) -> Mistakes:
    taken = names_taken(without=agent)
    whose = taken.get(agent.agent_id.casefold())
    if whose and whose != _DECLARED_ID:  # of which a constraint of the table tells
        yield "name", f"{agent.agent_id} is taken: it is {whose}."
    yield from alias_mistakes(agent.aliases, agent.agent_id, taken)


def alias_mistakes(given: object, own_id: str, taken: Mapping[str, str]) -> Mistakes:
    """Names differ by more than case: `taken` is names_taken()."""
    aliases = _texts(given)
    if aliases is None:
        yield "aliases", 'Aliases are a list of model names: ["helpdesk"].'
        return
    for alias in aliases:
        if not ALIAS.fullmatch(alias):
            yield "aliases", f"“{alias}” is no model name: lower-case letters, digits, dots, dashes, at most one slash."
        elif whose := taken.get(alias.casefold()):
            yield "aliases", f"“{alias}” is taken: it is {whose}."
        elif alias == own_id:
            yield "aliases", f"“{alias}” is its own id."


def names_taken(*, without: DeclaredAgent | AgentSettings | None = None) -> dict[str, str]:
    """Ids and aliases of agents, case-folded, with whose they are in words. Three queries."""
    drop_ins = dict(DropIn.objects.exclude(state=State.GONE).values_list("pk", "agent_id"))
    taken = {id.casefold(): "the id of an agent in a folder" for id in drop_ins.values()}
    for row in DeclaredAgent.objects.only("namespace", "name", "aliases"):
        if row != without:
            taken.setdefault(row.agent_id.casefold(), _DECLARED_ID)
            taken |= {one.casefold(): f"an alias of {row.agent_id}" for one in _texts(row.aliases) or ()}
    for settings in AgentSettings.objects.select_related("drop_in").only("aliases", "drop_in__agent_id"):
        if settings != without:
            owner = settings.drop_in.agent_id
            taken |= {one.casefold(): f"an alias of {owner}" for one in _texts(settings.aliases) or ()}
    return taken


# --- what may be saved, and should be known --------------------------------------------------------------------------


def remarks(agent: DeclaredAgent, judge: Callable[[DeclaredAgent], tuple[Problem, ...]] | None = None) -> list[str]:
    """A sentence for each, with what to do, by what is in force now. Asks the database, and no server.

    For many agents `judge` is what judge_in_force() returned.
    """
    found = (judge or judge_in_force())(agent)
    return [*_unknown_variables(agent), *_shadowed(agent), *map(in_words, found)]


def problems(agent: DeclaredAgent) -> tuple[Problem, ...]:
    """What a live agent like this would lack."""
    return judge_in_force()(agent)


def judge_in_force() -> Callable[[DeclaredAgent], tuple[Problem, ...]]:
    """The same for many agents, by what is in force now, this instant's edits included."""
    live_config.refresh()
    judge = Judge(table=upstreams.current(), tools=tools(), namespaces=NAMESPACES.current(), folders=folder_ids())
    return lambda agent: judge.problems_of(declared(agent))


def folder_ids() -> frozenset[str]:
    """The ids that folders have, in whichever worker."""
    return frozenset(DropIn.objects.exclude(state__in=[State.GONE, State.DENIED]).values_list("agent_id", flat=True))


def in_words(one: Problem) -> str:
    return f"{one.reason} {one.remedy}"


def _unknown_variables(agent: DeclaredAgent) -> Iterator[str]:
    for name in dict.fromkeys(_PLACEHOLDER.findall(agent.instructions)):
        if name not in VARIABLES:
            near = difflib.get_close_matches(name, VARIABLES, n=1)
            hint = f"did you mean {{{{{near[0]}}}}}?" if near else f"there are {', '.join(VARIABLES)}."
            yield f"{{{{{name}}}}} in the instructions is no variable, and stays as it is: {hint}"


def _shadowed(agent: DeclaredAgent) -> Iterator[str]:
    if agent.agent_id in {one.agent_id for one in offered(upstreams.current())}:
        yield f"{agent.agent_id} is also a model that an upstream offers: the declared agent goes before it."
