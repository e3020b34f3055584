"""Which model would answer for an agent, and what its operator should know of it.

The upstreams, and what operators chose for an agent, are live configuration, so most of this is not known when a module
is loaded: what discovery found is joined with what is in force, and joined anew when either changes. Works on plain
values; a thousand agents take a few milliseconds.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from apps.catalog.diagnostics import Problem, problem
from apps.catalog.generations import Found, Serving
from apps.catalog.models import State
from apps.catalog.scan import AGENT_FILE
from apps.core.errors import Unavailable
from apps.upstreams.models import Kind
from apps.upstreams.routing import NO_PREFERENCE, ModelRef, Preference, Route, Table

_NONE: Final[Mapping[str, Preference]] = MappingProxyType({})

if TYPE_CHECKING:  # it imports the SDK, which takes seconds
    from apps.catalog.graph import Node


# --- whatever the upstreams are --------------------------------------------------------------------------------------


def lasting_problems(nodes: Sequence["Node"], file: Path) -> Iterator[Problem]:
    """What is to be said of these agents whatever the upstreams are."""
    if own := [node for node in nodes if node.own_model]:
        models = ", ".join(f"{node.own_model} of the agent {node.name}" for node in own)
        yield problem(
            "own_model",
            f"It brings its own model ({models}): its calls go past the gateway's upstreams, and are not counted.",
            "Leave it if that is wanted; else give the agent the name of a model.",
            file,
        )
    if chat_only := [node for node in own if node.needs]:
        yield problem(
            "needs_responses",
            f"The agent's own model speaks chat completions, which lack {_needs(chat_only)}.",
            "Give the agent an OpenAIResponsesModel of its own, or the name of a model.",
            file,
        )
    if sandboxed := [node.name for node in nodes if node.runs_commands]:
        yield problem(
            "runs_commands",
            f"The SandboxAgent {' and '.join(sandboxed)} lets its model run commands on this machine, as the gateway's "
            "user.",
            "Run the gateway in a container, or let only keys that you trust use the agent.",
            file,
        )


def responses_needed(nodes: Sequence["Node"], file: Path) -> Problem | None:
    """What these agents would lack on upstreams without the Responses API."""
    if not (needing := [node for node in nodes if node.needs and not node.own_model]):
        return None
    return problem(
        "needs_responses",
        f"It needs an upstream with the Responses API for its model, because of {_needs(needing)}.",
        "Mark an upstream as having it in the admin under Upstreams, or add OpenAI there; or use a function tool or an "
        "MCP server instead.",
        file,
    )


def _needs(nodes: Iterable["Node"]) -> str:
    return ", ".join(f"{need} of the agent {node.name}" for node in nodes for need in node.needs)


# --- with the upstreams in force -------------------------------------------------------------------------------------


def joined(found: Found, table: Table, preferences: Mapping[str, Preference] = _NONE) -> Found:
    """The same find with what the upstreams make of it: further problems, and agents that nothing can serve broken.

    `preferences` are what operators chose, by agent id; most agents have none.
    """
    judge = _Judge(table, preferences)
    return Found({agent_id: judge.judged(serving) for agent_id, serving in found.agents.items()}, found.others)


class _Judge:
    """Asks the table once for each model name, however many agents share it."""

    def __init__(self, table: Table, preferences: Mapping[str, Preference]) -> None:
        self._table = table
        self._preferences = preferences
        self._known: dict[tuple[str, bool, Preference], Route | Unavailable] = {}
        self._lists_are_known = lists_are_known(table)

    def judged(self, serving: Serving) -> Serving:
        if serving.generation is None or serving.generation.model_provider:  # the module's own client answers
            return serving
        prefer = self._preferences.get(serving.agent_id, NO_PREFERENCE)
        problems = tuple(self._problems(serving.generation.nodes, serving.folder / AGENT_FILE, prefer))
        if not problems:
            return serving
        refused = any(one.code == "needs_responses" for one in problems)
        state = State.BROKEN if refused else serving.state
        return replace(serving, state=state, problems=(*serving.problems, *problems))

    def _problems(self, nodes: Sequence["Node"], file: Path, prefer: Preference) -> Iterator[Problem]:
        lacking: list[Node] = []
        unanswered: dict[str, None] = {}
        substituted: defaultdict[Route, dict[str, list[str]]] = defaultdict(dict)
        for node in nodes:
            if node.own_model:
                continue
            outcome = self._outcome(node.model, bool(node.needs), prefer)
            if isinstance(outcome, Route):
                if outcome.is_substitute and outcome.target.kind != Kind.DEMO and self._lists_are_known:
                    substituted[outcome].setdefault(node.model, []).append(node.name)
            elif outcome.code == "needs_responses":
                lacking.append(node)
            else:
                unanswered[outcome.message] = None
        if needed := responses_needed(lacking, file):
            yield needed
        yield from (no_upstream(message, file) for message in unanswered)
        for route, by_model in substituted.items():
            if prefer.instead:
                yield choice_substituted(prefer.instead, route, file)
            else:
                yield from (_substituted(model, names, route, file) for model, names in by_model.items())

    def _outcome(self, model: str, responses: bool, prefer: Preference) -> Route | Unavailable:
        known = self._known.get((model, responses, prefer))
        if known is None:
            try:
                known = self._table.route(model or None, responses=responses, prefer=prefer)
            except Unavailable as error:
                known = error
            self._known[model, responses, prefer] = known
        return known


def lists_are_known(table: Table) -> bool:
    """A server whose list was not read yet may have any model."""
    return all(target.models for target in table.targets.values())


def no_upstream(message: str, file: Path | str = "") -> Problem:
    reason, _, remedy = message.partition(". ")
    return problem("no_upstream", f"Nothing can answer for it: {reason}.", remedy, file)


def choice_substituted(wanted: ModelRef, route: Route, file: Path | str = "") -> Problem:
    """Of the model that an operator chose for an agent."""
    of = f" of '{wanted.upstream}'" if wanted.upstream else ""
    what = f"the model {wanted.model}" if wanted.model else "the default model"
    return problem(
        "model_substituted",
        f"An operator chose {what}{of}, which no enabled upstream has; {route.model} of '{route.target.slug}' answers "
        "instead.",
        "Choose another model in the admin, or add or enable the upstream that has it.",
        file,
    )


def _substituted(model: str, names: Sequence[str], route: Route, file: Path) -> Problem:
    asks = f"The agent {names[0]} asks" if len(names) == 1 else f"The agents {', '.join(names)} ask"
    return problem(
        "model_substituted",
        f"{asks} for the model {model}, which no enabled upstream lists; {route.model} of '{route.target.slug}' "
        "answers instead.",
        "Add an upstream that has it in the admin under Upstreams, or name a model that one lists. "
        "GATEWAY_DEFAULT_MODEL chooses what answers instead.",
        file,
    )
