"""Loads one folder by itself, wherever it lies, and reports what it would be as an agent. Writes to no database."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.conf import settings

from apps.catalog import answering, loader, modules, needs, scan
from apps.catalog.diagnostics import Problem, problem, tools_unknown
from apps.catalog.generations import Generation
from apps.catalog.options import DEFAULT, LoadOptions
from apps.core import live_config
from apps.tools.in_force import TOOLS

if TYPE_CHECKING:  # it imports the SDK, which takes seconds
    from apps.catalog.exports import Published

Report = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Inspection:
    """`report` as JSON values: `ok`, `id`, `path`, `agents` (one for each that would be published), `needs`,
    `problems`. `generation` is the first of the agents, ready to run; None when there is none.
    """

    report: Report
    generation: Generation | None


def inspect_folder(path: Path, options: LoadOptions = DEFAULT) -> Report:
    with inspected(path, options) as inspection:
        return inspection.report


@contextmanager
def inspected(path: Path, options: LoadOptions = DEFAULT) -> Iterator[Inspection]:
    """What the folder would be as an agent, if the gateway may load it. It stays loaded inside."""
    folder = Path(os.path.abspath(path))  # noqa: PTH100  # resolve() would follow links, and so change the id
    if folder.name == scan.AGENT_FILE:
        folder = folder.parent
    agent_id = _agent_id(folder)
    if missing := _missing(folder):
        yield Inspection(_report(agent_id, folder, [], [missing]), None)
        return
    policy = modules.at_hand()
    live_config.load_if_possible()  # for the gateway's tools that the module uses
    if refusal := modules.refusal(scan.Folder(agent_id, folder, scan.fingerprint(folder)), policy):
        yield Inspection(_report(agent_id, folder, [], [refusal]), None)
        return
    loaded = loader.load(agent_id, folder, options, policy.denied_imports)
    try:
        serving = [one for one in loaded.published if not (one.is_refused or _needs(one, folder))]
        refusals = [refusal for one in loaded.published for refusal in (*one.problems, *_needs(one, folder))]
        agents = [_agent(agent_id, one) for one in serving]
        unknown = _unknown_tools(serving, folder)
        report = _report(agent_id, folder, agents, [*loaded.problems, *refusals, *unknown])
        yield Inspection(report, _generation(agent_id, serving[0], loaded) if serving else None)
    finally:
        if loaded.package:
            loaded.package.release()


def _generation(agent_id: str, published: "Published", loaded: loader.Loaded) -> Generation:
    assert loaded.package is not None
    id = loader.published_id(agent_id, published)
    generation = Generation(agent_id=id, digest="", published=published, package=loaded.package)
    generation.model_provider = loaded.model_provider
    return generation


def _agent_id(folder: Path) -> str:
    """The id that the folder has, or would have in the default namespace."""
    return next(
        (
            agent_id
            for root in settings.GATEWAY_AGENT_DISCOVERY_PATH
            if folder.is_relative_to(root)
            for agent_id, candidate in scan.candidates(root)
            if candidate == folder
        ),
        scan.agent_id(scan.DEFAULT_NAMESPACE, folder.name),
    )


def _needs(published: "Published", folder: Path) -> list[Problem]:
    """What it cannot do without; whether the gateway has it, only the gateway's database knows."""
    return list(filter(None, [answering.responses_needed(published.nodes, folder / scan.AGENT_FILE)]))


def _unknown_tools(serving: Iterable["Published"], folder: Path) -> list[Problem]:
    """The gateway's tools that could not be looked up."""
    names = answering.gateway_tools([node for one in serving for node in one.nodes])
    return [tools_unknown(names, folder / scan.AGENT_FILE)] if names and TOOLS.loaded() is None else []


def _missing(folder: Path) -> Problem | None:
    if not folder.is_dir():
        reason = f"{folder} does not exist." if not folder.exists() else f"{folder} is not a folder."
        return problem("no_agent_file", reason, "Give the path of a folder that contains agent.py.", folder)
    if not (folder / scan.AGENT_FILE).is_file():
        remedy = f"Rename the file that defines the agent to {scan.AGENT_FILE}, or give the path of another folder."
        return problem("no_agent_file", f"{folder} contains no {scan.AGENT_FILE}.", remedy, folder)
    return None


def _report(agent_id: str, folder: Path, agents: list[Report], problems: Iterable[Problem]) -> Report:
    problems = tuple(problems)
    return {
        "ok": bool(agents) and not any(one.is_error for one in problems),
        "id": agent_id,
        "path": str(folder),
        "agents": agents,
        "needs": {"packages": needs.packages(folder), "environment": needs.environment(folder)},
        "problems": [problem_values(one) for one in problems],
    }


def problem_values(one: Problem) -> Report:
    return {
        "code": one.code,
        "severity": one.severity,
        "reason": one.reason,
        "remedy": one.remedy,
        "file": one.file,
        "line": one.line,
    }


def _agent(agent_id: str, published: "Published") -> Report:
    export = published.export
    return {
        "id": loader.published_id(agent_id, published),
        "export": export.kind,
        "variable": export.variable,
        "context": getattr(export.context_type, "__name__", None),
        "graph": [
            {
                "name": one.name,
                "model": one.model,
                "model_of_its_own": bool(one.own_model),
                "tools": list(one.tools),
                "handoffs": list(one.handoffs),
                "mcp_servers": list(one.mcp_servers),
            }
            for one in published.nodes
        ],
    }
