"""Why a declared agent does not do what its operator wants of it, with the upstreams and tools that there are now.

Judged anew when any of these changes, on the event loop: what many agents have in common is found out once.
"""

import difflib
from collections.abc import Collection, Iterator, Mapping

from apps.catalog import answering
from apps.catalog.declared import Declared
from apps.catalog.diagnostics import Problem, problem
from apps.catalog.run_options import DEFAULT
from apps.core import globs
from apps.core.errors import Unavailable
from apps.tools.tool import Tool
from apps.upstreams.models import Kind
from apps.upstreams.routing import ModelRef, Preference, Route, Table


class Judge:
    """`namespaces` are the default models by namespace; `folders` are the ids that folders serve."""

    def __init__(
        self,
        *,
        table: Table,
        tools: Mapping[str, Tool],
        namespaces: Mapping[str, ModelRef],
        folders: Collection[str],
    ) -> None:
        self._table = table
        self._tools = tools
        self._namespaces = namespaces
        self._folders = folders
        self._lists_are_known = answering.lists_are_known(table)
        self._of_models: dict[tuple[ModelRef, ModelRef], tuple[Problem, ...]] = {}
        self._of_tools: dict[str, str] = {}

    def problems_of(self, one: Declared) -> tuple[Problem, ...]:
        """Errors first."""
        return (*self._id_taken(one), *self._of_model(one), *self._missing_tools(one))

    def _id_taken(self, one: Declared) -> Iterator[Problem]:
        if one.agent_id in self._folders:
            yield problem(
                "id_taken",
                f"A folder serves as {one.agent_id} already, and goes before the declared agent.",
                "Give the declared agent another name, or rename the folder.",
            )

    # --- the model ---------------------------------------------------------------------------------------------------

    def _of_model(self, one: Declared) -> tuple[Problem, ...]:
        wanted = one.options.model
        default = self._namespaces.get(one.agent_id.partition("/")[0], DEFAULT.model)
        if (wanted, default) not in self._of_models:
            self._of_models[wanted, default] = tuple(self._judged(wanted, default))
        return self._of_models[wanted, default]

    def _judged(self, wanted: ModelRef, default: ModelRef) -> Iterator[Problem]:
        try:
            route = self._table.route(None, prefer=Preference(instead=wanted, default=default))
        except Unavailable as error:
            yield answering.no_upstream(error.message)
            return
        if is_substitute(wanted, route):
            if route.target.kind != Kind.DEMO and self._lists_are_known:
                yield answering.choice_substituted(wanted, route)
        elif unlisted := unlisted_model(wanted, route):
            yield unlisted

    # --- the tools ---------------------------------------------------------------------------------------------------

    def _missing_tools(self, one: Declared) -> Iterator[Problem]:
        missing = [named for named in map(self._missing, one.tools) if named]
        if missing:
            words = ("tools", "them") if len(missing) > 1 else ("tool", "it")
            yield problem(
                "tools_missing",
                f"The gateway has no {words[0]} {' and '.join(missing)}: the agent goes on without {words[1]}.",
                "Add or enable what is missing in the admin under Tools, or take it off the agent's list.",
            )

    def _missing(self, wanted: str) -> str:
        """The name with those that are near; empty when there is such a tool."""
        if wanted in self._tools:
            return ""
        if wanted not in self._of_tools:
            fits = "*" in wanted and any(globs.fits(name, wanted) for name in self._tools)
            self._of_tools[wanted] = "" if fits else _with_near(wanted, self._tools)
        return self._of_tools[wanted]


def _with_near(name: str, tools: Collection[str]) -> str:
    near = difflib.get_close_matches(name, tools, n=2)
    return f"'{name}'" + (f" (near: {', '.join(near)})" if near else "")


def is_substitute(wanted: ModelRef, route: Route) -> bool:
    """Whether something else answers than what an operator chose."""
    return route.is_substitute or bool(wanted.upstream and route.target.slug != wanted.upstream)


def unlisted_model(wanted: ModelRef, route: Route) -> Problem | None:
    """Of a model that was named outright, where its upstream lists others."""
    listed, target = route.target.models, route.target
    if not wanted.model or not listed or route.model in listed or route.first or target.kind == Kind.DEMO:
        return None
    near = difflib.get_close_matches(route.model, listed, n=3, cutoff=0.5)
    hint = f" Near names: {', '.join(near)}." if near else ""
    return problem(
        "model_unlisted",
        f"'{target.slug}' does not list the model {route.model}.{hint}",
        "Choose a model that it lists, or load the model there and read the list again in the admin under Upstreams.",
    )
