"""What a module exports: an agent, several, a factory, or a function that runs the workflow itself.

The rules stand in their order of precedence in `_RULES`. None of them guesses: where a module leaves it open, every
unrelated agent is published under its variable's name.
"""

import asyncio
import inspect
import typing
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from agents import Agent
from pydantic import BaseModel

from apps.catalog import answering, graph, not_chat
from apps.catalog.context_template import template_of
from apps.catalog.diagnostics import Problem, problem
from apps.catalog.source import FACTORY_NAMES, Source

Workflow = Callable[..., Coroutine[Any, Any, Any]]

_MARKERS = ("__gateway__", "root_agent")


@dataclass(frozen=True, slots=True)
class Export:
    """One thing that serves. `context_type` builds the run context that its callbacks expect, one for each run."""

    kind: Literal["agent", "factory", "workflow", "dry_run"]
    variable: str
    agent: Agent[Any] | None  # None for a workflow; a factory's was built at load, a dry run's by the module's program
    workflow: Workflow | None
    workflow_input: type | None  # the pydantic class with input_as_text, None when the workflow takes the text
    context_type: Callable[[], Any] | None
    agents: tuple[Agent[Any], ...]  # every agent that a run may come to, the entry first
    per_run: Callable[[], Any] | None = None  # the factory, when every run shall have an agent of its own


@dataclass(frozen=True, slots=True)
class Published:
    """An export, or the problems that keep it from serving. `suffix` is "" unless the module publishes several."""

    suffix: str
    export: Export
    nodes: tuple[graph.Node, ...]  # the export's agents, the entry first
    problems: tuple[Problem, ...] = ()

    @property
    def is_refused(self) -> bool:
        return any(one.is_error for one in self.problems)

    @property
    def lacks_context(self) -> bool:
        return any(one.code == "needs_context" for one in self.problems)


@dataclass(frozen=True, slots=True)
class Findings:
    published: tuple[Published, ...] = ()
    problems: tuple[Problem, ...] = ()

    @property
    def lack_an_agent(self) -> bool:
        """Whether running the module's program could help."""
        return [one.code for one in self.problems] == ["no_export"]

    @property
    def lack_a_context(self) -> bool:
        return any(one.lacks_context for one in self.published)


class FactoryFailed(Exception):
    """A factory of the module raised; the cause is what it raised."""


def find_exports(module: ModuleType, source: Source, folder: Path, *, build_per_run: bool = False) -> Findings:
    """Raises FactoryFailed. Runs the module's factories, so it belongs into the loading thread."""
    names = _Names(module, source, folder / "agent.py")
    exports = next(filter(None, (rule(names) for rule in _RULES)), [])
    if not build_per_run:
        exports = [replace(one, per_run=None) for one in exports]
    if not exports:
        return Findings(problems=(_nothing(names),))
    several = len(exports) > 1
    published = tuple(_publish(one, one.variable if several else "", names.file) for one in exports)
    return Findings(published, (_several(exports, names.file),) if several else ())


def of_program(agent: Agent[Any], context: Any, folder: Path) -> Findings:
    """What a dry run found: the agent that the module's program runs first, and the context it gives to that run."""
    export = _agent("main", agent, "dry_run")
    if not export.context_type:
        export = replace(export, context_type=template_of(context))
    return Findings((_publish(export, "", folder / "agent.py"),))


def only_root(agents: Sequence[Agent[Any]]) -> Agent[Any] | None:
    """The one that reaches all others; None when there is no such one."""
    return next((one for one in agents if len(graph.reachable(one)) == len(graph.reachable(*agents))), None)


def in_context(findings: Findings, context: Any) -> Findings:
    """With the context of the module's program where it is what an agent lacks."""
    return replace(findings, published=tuple(_in_context(one, context) for one in findings.published))


def _in_context(one: Published, context: Any) -> Published:
    wanted, template = graph.context_class(one.export.agents), template_of(context)
    if not one.lacks_context or wanted is None or not isinstance(context, wanted) or template is None:
        return one
    problems = tuple(problem for problem in one.problems if problem.code != "needs_context")
    return replace(one, export=replace(one.export, context_type=template), problems=problems)


def _publish(export: Export, suffix: str, file: Path) -> Published:
    nodes = graph.describe_all(export.agents)
    problems = (*_shortcomings(export, file), *answering.lasting_problems(nodes, file))
    return Published(suffix, export, nodes, problems)


@dataclass
class _Names:
    """The module's variables, as the rules ask for them."""

    module: ModuleType
    source: Source
    file: Path

    @cached_property
    def agents(self) -> dict[str, Agent[Any]]:
        """The agents that may be entries, each once."""
        variables = vars(self.module)
        distinct = {id(value): name for name, value in reversed(variables.items()) if isinstance(value, Agent)}
        every = {name: variables[name] for name in variables if name in distinct.values()}
        here = {name: agent for name, agent in every.items() if name not in self.source.imported}
        return {name: agent for name, agent in (here or every).items() if name not in self.source.inner}

    @cached_property
    def functions(self) -> dict[str, Callable[..., Any]]:
        package = str(self.module.__package__)
        functions = {name: value for name, value in vars(self.module).items() if inspect.isfunction(value)}
        return {name: one for name, one in functions.items() if str(one.__module__).startswith(package)}

    def get(self, name: str) -> Any:
        return vars(self.module).get(name)

    @property
    def roots(self) -> dict[str, Agent[Any]]:
        """Those that no other one reaches."""
        below = {id(child) for agent in self.agents.values() for child in graph.reachable(agent)[1:]}
        return {name: agent for name, agent in self.agents.items() if id(agent) not in below}


# --- the rules -------------------------------------------------------------------------------------------------------


def _marked(names: _Names) -> list[Export]:
    """`__gateway__ = "variable"` (or the thing itself), `root_agent = ...`: the author said it."""
    for marker in _MARKERS:
        value = names.get(marker)
        variable = value if isinstance(value, str) else marker
        value = names.get(value) if isinstance(value, str) else value
        if isinstance(value, Agent):
            return [_agent(variable, value)]
        if inspect.isfunction(value):
            return [_workflow(variable, value)] if _takes_text(value) else _built(variable, value)
    return []


def _builder_workflow(names: _Names) -> list[Export]:
    """An Agent Builder export. It wins over a node that happens to be called `agent`."""
    return next(([_workflow(name, one)] for name, one in names.functions.items() if _input_class(one)), [])


def _agent_variable(names: _Names) -> list[Export]:
    value = names.get("agent")
    return [_agent("agent", value)] if isinstance(value, Agent) else []


def _named_workflow(names: _Names) -> list[Export]:
    function = names.functions.get("run_workflow")
    return [_workflow("run_workflow", function)] if function and _takes_text(function) else []


def _only_root(names: _Names) -> list[Export]:
    """Exactly one agent, or the unique root of the graph."""
    return [_agent(*root) for root in names.roots.items()] if len(names.roots) == 1 else []


def _started_by_main(names: _Names) -> list[Export]:
    """What main() gives to Runner first: decides between unrelated agents, and in a graph that is a cycle."""
    return next(([_agent(name, names.agents[name])] for name in names.source.started if name in names.agents), [])


def _factories(names: _Names) -> list[Export]:
    if names.agents:
        return []
    factories = {name: one for name, one in names.functions.items() if _is_factory(name, one, names.source)}
    here = {name: one for name, one in factories.items() if name not in names.source.imported} or factories
    # A factory that another one calls builds a part of that one's agent.
    calls = names.source.calls
    inner = {called for name in here for called in calls.get(name, ()) if called != name}
    outer = {name: one for name, one in here.items() if name not in inner} or here
    first = next((name for name in names.source.started if name in outer), None)
    chosen = {first: outer[first]} if first else outer
    return [export for name, one in chosen.items() for export in _built(name, one)]


def _every_root(names: _Names) -> list[Export]:
    return [_agent(name, agent) for name, agent in (names.roots or names.agents).items()]


_RULES: tuple[Callable[[_Names], list[Export]], ...] = (
    _marked,
    _builder_workflow,
    _agent_variable,
    _named_workflow,
    _only_root,
    _started_by_main,
    _factories,
    _every_root,
)


# --- exports of each kind --------------------------------------------------------------------------------------------


def _agent(variable: str, agent: Agent[Any], kind: Literal["agent", "factory", "dry_run"] = "agent") -> Export:
    agents = graph.reachable(agent)
    return Export(kind, variable, agent, None, None, _context_type(agents), agents)


def _built(variable: str, factory: Callable[[], Any]) -> list[Export]:
    try:
        built = factory()
        if inspect.isawaitable(built):
            # The loop ends with the factory: what it connected (an MCP server) must connect again in the run.
            built = asyncio.run(_await(built))
    except Exception as error:
        raise FactoryFailed(variable) from error
    return [replace(_agent(variable, built, "factory"), per_run=factory)] if isinstance(built, Agent) else []


async def _await(awaitable: typing.Awaitable[Any]) -> Any:
    return await awaitable


def _workflow(variable: str, function: Workflow) -> Export:
    everything = [value for value in function.__globals__.values() if isinstance(value, Agent)]
    agents = graph.reachable(*everything)
    # The workflow builds the contexts of its runs itself.
    return Export("workflow", variable, None, function, _input_class(function), None, agents)


def _context_type(agents: tuple[Agent[Any], ...]) -> Callable[[], Any] | None:
    found = graph.context_class(agents)
    return found if found and graph.may_build(found) else None


def _is_factory(name: str, function: Callable[..., Any], source: Source) -> bool:
    if _required(function) or inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
        return False
    annotation = _hints(function).get("return", inspect.Parameter.empty)
    if annotation is inspect.Parameter.empty:
        return name in FACTORY_NAMES or name in source.factories
    origin = typing.get_origin(annotation) or annotation
    if isinstance(origin, str):
        return origin.partition("[")[0].rpartition(".")[2].endswith("Agent")
    return inspect.isclass(origin) and issubclass(origin, Agent)


def _input_class(function: Callable[..., Any]) -> type | None:
    """The class of the one required parameter when it is Agent Builder's `WorkflowInput`."""
    parameters = _required(function)
    if not inspect.iscoroutinefunction(function) or len(parameters) != 1:
        return None
    annotation = _hints(function).get(parameters[0])
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return annotation if "input_as_text" in annotation.model_fields else None
    return None


def _takes_text(function: Callable[..., Any]) -> bool:
    if not inspect.iscoroutinefunction(function) or len(_required(function)) != 1:
        return False
    annotation = _hints(function).get(_required(function)[0], str)
    return annotation in (str, "str", Any) or _input_class(function) is not None


def _required(function: Callable[..., Any]) -> list[str]:
    positional = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [
        name
        for name, one in inspect.signature(function).parameters.items()
        if one.default is one.empty and one.kind not in positional
    ]


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function)
    except Exception:  # noqa: BLE001  # an annotation under TYPE_CHECKING does not evaluate; its text has to do
        return getattr(function, "__annotations__", {})


# --- problems --------------------------------------------------------------------------------------------------------


def _shortcomings(export: Export, file: Path) -> Iterator[Problem]:
    context = graph.context_class(export.agents)
    if export.kind != "workflow" and context and not export.context_type:
        yield problem(
            "needs_context",
            f"Its tools or instructions expect a run context of type {context.__name__}, which cannot be built without "
            "arguments; they get None instead.",
            f"Give every field of {context.__name__} a default.",
            file,
        )


def _several(exports: list[Export], file: Path) -> Problem:
    names = ", ".join(one.variable for one in exports)
    return problem(
        "several_agents",
        f"The module exports several agents ({names}) and does not say which one leads; each is published under its "
        "variable's name.",
        'To publish one, call it `agent` or name it: `__gateway__ = "variable"`.',
        file,
    )


def _nothing(names: _Names) -> Problem:
    if found := not_chat.in_module(names.module):
        return found
    if marker := next((one for one in _MARKERS if names.get(one) is not None), None):
        return problem(
            "no_export",
            f"{marker} names nothing that serves: {names.get(marker)!r}.",
            "Let it name an Agent, a function that returns one, or a workflow coroutine.",
            names.file,
        )
    reason = "The module exports no Agent, factory or workflow."
    remedy = (
        "Assign the agent at module level (`agent = Agent(...)`), or return it from a function without arguments "
        "annotated `-> Agent`."
    )
    if names.source.inner:
        reason = f"The module's only agents ({', '.join(sorted(names.source.inner))}) are parts of a guardrail or tool."
    elif names.source.builds_inside:
        reason = "The module builds its agent inside a function, so that there is nothing to import."
        if names.source.program:
            remedy += " Or turn on “run main() to find it” for this agent in the admin."
    return problem("no_export", reason, remedy, names.file)
