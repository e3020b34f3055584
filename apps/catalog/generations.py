"""Versions of agents: what a run holds, and which version of each agent serves while folders change."""

import hashlib
import inspect
import sys
import threading
import typing
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import monotonic
from types import MappingProxyType
from typing import TYPE_CHECKING

import structlog

from apps.catalog import loader, scan
from apps.catalog.diagnostics import Problem
from apps.catalog.failure_kinds import failed_to_load
from apps.catalog.models import State
from apps.catalog.options import DEFAULT, LoadOptions
from apps.catalog.packages import Package
from apps.catalog.scan import AGENT_FILE
from apps.observability import context, error_ring

if TYPE_CHECKING:  # they import the SDK, which takes seconds
    from agents import ModelProvider

    from apps.catalog.exports import Published

_PATIENCE = 3  # loads in a row that find their files changed when they end
_LONGEST_REST = 60.0  # seconds

_NO_OPTIONS: Mapping[str, LoadOptions] = MappingProxyType({})

log = structlog.get_logger(__name__)


class Generation:
    """A loaded version of one agent. Agents that one folder publishes share a package."""

    def __init__(self, *, agent_id: str, digest: str, published: "Published", package: Package) -> None:
        self.agent_id = agent_id
        self.digest = digest
        self.export = published.export
        # The entry agent in plain values; None for a workflow, which has no single entry.
        self.node = published.nodes[0] if published.export.agent else None
        self.nodes = published.nodes  # every agent that a run may come to
        self.description = (self.node and self.node.description) or _first_paragraph(package)
        self.model_provider: ModelProvider | None = None  # of a module whose own client may be used
        self.module_path = package.module_path
        self._package = package
        self._retired = False
        self._lock = threading.Lock()
        package.retain()

    @property
    def number(self) -> int:
        return self._package.number

    @property
    def package(self) -> str:
        """The name that its modules have in sys.modules."""
        return self._package.name

    def hold(self) -> AbstractContextManager[None]:
        """A run holds the version that it began with: its modules stay importable until the last one lets go."""
        return self._package.retained()

    def deny_imports(self, names: tuple[str, ...]) -> None:
        """For the modules that it has yet to import."""
        self._package.denied_imports = names

    def retire(self) -> None:
        """No new run will come. May be called again."""
        with self._lock:
            if not self._retired:
                self._retired = True
                self._package.release()


def _first_paragraph(package: Package) -> str:
    """Of the module's docstring."""
    documentation = inspect.cleandoc(str(sys.modules[f"{package.name}.agent"].__doc__ or ""))
    return " ".join(documentation.partition("\n\n")[0].split())


@dataclass(frozen=True, slots=True)
class Serving:
    """What discovery knows about one agent id; the operator's settings are added when it is read."""

    agent_id: str
    folder: Path
    created: int
    state: State
    generation: Generation | None
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """One consistent picture of everything discovered, replaced whole."""

    agents: Mapping[str, Serving] = field(default_factory=dict)
    # Of ids that have no entry: denied folders, folders without agent.py, the discovery folders themselves ("*").
    others: tuple[tuple[str, Problem], ...] = ()


@dataclass(frozen=True, slots=True)
class Changes:
    """Agent ids; an id is in `failed` also when its last good version goes on serving."""

    loaded: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.loaded or self.failed or self.gone)


@dataclass(slots=True)
class _Slot:
    """One folder between two scans."""

    folder: scan.Folder
    digest: str  # of the last attempt, whether it loaded or not
    failed: bool
    agents: dict[str, Serving]
    options: LoadOptions
    denied_imports: tuple[str, ...] = ()  # that the serving version was looked through for
    disturbed: int = 0  # so many loads in a row during which its files changed
    rests_until: float = 0.0  # monotonic
    tried_with: frozenset[str] | None = None  # the gateway's tools, where the last attempt lacked one

    def follows(self, folder: scan.Folder) -> bool:
        """As far as files go; one that rests is left alone as long as the same place may be loaded."""
        is_resting = monotonic() < self.rests_until
        same_place = (self.folder.path, self.folder.withheld) == (folder.path, folder.withheld)
        return self.folder == folder or (is_resting and same_place)

    def is_current(self, options: LoadOptions, denied_imports: tuple[str, ...], tools: frozenset[str]) -> bool:
        return (
            self.options == options
            and self.denied_imports == denied_imports
            and (self.tried_with is None or self.tried_with == tools)
        )

    def denied_imports_cover(self, names: tuple[str, ...]) -> bool:
        return set(names) <= set(self.denied_imports)


class Generations:
    """Follows the folders from scan to scan. Not thread-safe: one caller at a time."""

    def __init__(self) -> None:
        self._slots: dict[str, _Slot] = {}
        self._others: tuple[tuple[str, Problem], ...] = ()
        self._retiring: list[Generation] = []

    def follow(
        self,
        seen: scan.Scan,
        options: Mapping[str, LoadOptions] = _NO_OPTIONS,
        denied_imports: tuple[str, ...] = (),
        tools: frozenset[str] = frozenset(),
    ) -> Changes:
        """Load what changed since the last scan, in a folder or in the options of its id, or lacked a tool and might
        not do so now; and look for imports that are denied now. `tools` are the names of those that the gateway has.

        The versions that were replaced serve until `retire_replaced`.
        """
        folders = {folder.agent_id: folder for folder in seen.folders}
        before = self._agents()
        for agent_id in self._slots.keys() - folders.keys():
            self._retiring += _generations(self._slots.pop(agent_id).agents)
        with loader.Loads(denied_imports) as loads:
            touched = [
                agent_id
                for agent_id, folder in folders.items()
                if self._follow_folder(folder, options.get(agent_id, DEFAULT), loads, tools)
            ]
        self._others = seen.problems
        return self._changes(before, touched)

    def is_current(
        self,
        seen: scan.Scan,
        options: Mapping[str, LoadOptions] = _NO_OPTIONS,
        denied_imports: tuple[str, ...] = (),
        tools: frozenset[str] = frozenset(),
    ) -> bool:
        same = all(slot.is_current(options.get(id, DEFAULT), denied_imports, tools) for id, slot in self._slots.items())
        return same and self._others == seen.problems and not self.unfollowed(seen)

    def unfollowed(self, seen: scan.Scan) -> set[Path]:
        """The folders that are new, gone, or not as they were when they were last loaded."""
        folders = {folder.agent_id: folder for folder in seen.folders}
        changed = {folder.path for id, folder in folders.items() if not self._follows(folder)}
        return changed | {slot.folder.path for id, slot in self._slots.items() if id not in folders}

    def _follows(self, folder: scan.Folder) -> bool:
        slot = self._slots.get(folder.agent_id)
        return slot is not None and slot.follows(folder)

    def settled(self, first: scan.Scan, second: scan.Scan) -> scan.Scan:
        """The second of two scans, with the folders that changed between them as they were followed before."""
        earlier = {folder.agent_id: folder for folder in first.folders}
        later = {folder.agent_id: folder for folder in second.folders}
        settled = []
        for agent_id in {**later, **earlier}:
            folder = later.get(agent_id)
            if folder is None or folder != earlier.get(agent_id):
                slot = self._slots.get(agent_id)
                folder = slot.folder if slot else None
            if folder:
                settled.append(folder)
        return scan.Scan(tuple(settled), second.problems)

    def found(self) -> Found:
        agents = self._agents()
        for agent_id, one in self._others:
            if agent_id in agents:  # a duplicate: shown at the agent that serves
                serving = agents[agent_id]
                agents[agent_id] = _with_problems(serving, (*serving.problems, one))
        others = tuple(pair for pair in self._others if pair[0] not in agents)
        return Found(agents, others)

    def retire_replaced(self) -> None:
        """Call when nobody can find them any more."""
        retiring, self._retiring = self._retiring, []
        for generation in retiring:
            generation.retire()
        if retiring:
            _forget_types()

    def _agents(self) -> dict[str, Serving]:
        agents: dict[str, Serving] = {}
        held_back = {folder_id for folder_id, one in self._others if one.code == "not_approved"}
        for folder_id, slot in self._slots.items():
            serving = map(_stale, slot.agents.values()) if folder_id in held_back else slot.agents.values()
            agents |= {one.agent_id: one for one in serving if one.agent_id not in agents}
        return dict(sorted(agents.items()))

    def _changes(self, before: Mapping[str, Serving], touched: Iterable[str]) -> Changes:
        after = self._agents()
        changed = [one for agent_id in touched for one in self._slots[agent_id].agents.values()]
        return Changes(
            loaded=tuple(one.agent_id for one in changed if one.state == State.LIVE),
            failed=tuple(one.agent_id for one in changed if one.state != State.LIVE),
            gone=tuple(sorted(before.keys() - after.keys())),
        )

    def _follow_folder(
        self, folder: scan.Folder, options: LoadOptions, loads: loader.Loads, tools: frozenset[str]
    ) -> bool:
        """Whether it was loaded, or an attempt was made."""
        slot, denied_imports = self._slots.get(folder.agent_id), loads.denied_imports
        if slot and slot.follows(folder) and slot.is_current(options, denied_imports, tools):
            return False
        if folder.withheld:
            self._slots[folder.agent_id] = self._withhold(folder, folder.withheld, options, denied_imports, slot)
            return True
        digest = scan.digest(folder)
        # Equal content is no new version. A failed one is tried again on a touch: what it lacked may be there now.
        same = slot and slot.folder.path == folder.path and slot.digest == digest and slot.options == options
        if slot and same and not slot.failed and _passes(slot, folder, denied_imports):
            slot.folder, slot.denied_imports = folder, denied_imports
            return False
        slot = self._slots[folder.agent_id] = self._load(folder, digest, options, slot, loads)
        slot.tried_with = tools if _lacks_tool(slot.agents.values()) else None
        return True

    def _withhold(
        self,
        folder: scan.Folder,
        problem: Problem,
        options: LoadOptions,
        denied_imports: tuple[str, ...],
        slot: _Slot | None,
    ) -> _Slot:
        """Nothing of it is executed, and no version that served before goes on."""
        before = slot.agents if slot else {}
        agents = {id: _failed(folder, id, None, (problem,)) for id in before or (folder.agent_id,)}
        self._retiring += _generations(before)
        _log(agents.values())
        return _Slot(folder, "", failed=True, agents=agents, options=options, denied_imports=denied_imports)

    def _load(
        self, folder: scan.Folder, digest: str, options: LoadOptions, slot: _Slot | None, loads: loader.Loads
    ) -> _Slot:
        served, denied_imports = slot.agents if slot else {}, loads.denied_imports
        # What was not looked through for all that is denied now cannot go on in place of a version that does not load.
        before = served if slot and slot.denied_imports_cover(denied_imports) else {}
        if slot and slot.options == options and (reverted := _reverted(folder, digest, before)):
            return _Slot(folder, digest, failed=False, agents=reverted, options=options, denied_imports=denied_imports)
        loaded = loads.load(folder.agent_id, folder.path, options)
        disturbed = (slot.disturbed if slot else 0) + 1 if folder.has_changed() else 0
        if 0 < disturbed < _PATIENCE:
            digest = _digest_of_a_mixture(digest)
        agents = {}
        for published in loaded.published:
            agent_id = loader.published_id(folder.agent_id, published)
            if agent_id not in agents:  # variables that differ in case alone: the first one serves
                agents[agent_id] = _serving(folder, agent_id, digest, loaded, published, before.get(agent_id))
        if not agents:  # it did not load: whatever served goes on
            agents = {
                agent_id: _failed(folder, agent_id, before.get(agent_id), loaded.problems)
                for agent_id in served or (folder.agent_id,)
            }
        if loaded.package:
            loaded.package.release()  # the generations hold it now
        kept = set(map(id, _generations(agents)))
        self._retiring += [one for one in _generations(served) if id(one) not in kept]
        _log(agents.values())
        failed = any(one.state != State.LIVE for one in agents.values())
        return _Slot(folder, digest, failed, agents, options, denied_imports, disturbed, _rest(folder, disturbed))


def _lacks_tool(agents: Iterable[Serving]) -> bool:
    return any(problem.code == "tool_missing" for one in agents for problem in one.problems)


def _passes(slot: _Slot, folder: scan.Folder, denied_imports: tuple[str, ...]) -> bool:
    """Whether what serves may go on unloaded: the list may have grown since it was looked through."""
    if slot.denied_imports == denied_imports:
        return True
    if loader.denied_in_folder(folder.path, denied_imports):
        return False
    for one in _generations(slot.agents):
        one.deny_imports(denied_imports)
    return True


def _forget_types() -> None:
    """The standard library remembers the last 128 of each kind of `Agent[Context]`, and with them whole versions."""
    for forget in getattr(typing, "_cleanups", ()):  # what Python's own tests call
        forget()


def _digest_of_a_mixture(digest: str) -> str:
    """Of a version that may have been read from files of two versions: equal to none, so the next look replaces it."""
    return hashlib.sha256(f"{digest}, changed while it was loaded".encode()).hexdigest()


def _rest(folder: scan.Folder, disturbed: int) -> float:
    """Until when a folder is left alone that changes whenever it is loaded: its module writes there."""
    if disturbed < _PATIENCE:
        return 0.0
    if disturbed == _PATIENCE:
        log.warning(
            "agent_writes_into_its_folder",
            agent=folder.agent_id,
            reason="Files of its folder change whenever it is loaded, and a change loads it anew.",
            remedy="Let the module write elsewhere.",
        )
    return monotonic() + min(2.0 ** (disturbed - _PATIENCE), _LONGEST_REST)


def _serving(
    folder: scan.Folder,
    agent_id: str,
    digest: str,
    loaded: loader.Loaded,
    published: "Published",
    before: Serving | None,
) -> Serving:
    problems = (*loaded.problems, *published.problems)
    if published.is_refused or loaded.package is None:
        return _failed(folder, agent_id, before, problems)
    generation = Generation(agent_id=agent_id, digest=digest, published=published, package=loaded.package)
    generation.model_provider = loaded.model_provider
    return Serving(agent_id, folder.path, folder.created, State.LIVE, generation, problems)


def _failed(folder: scan.Folder, agent_id: str, before: Serving | None, problems: tuple[Problem, ...]) -> Serving:
    generation = before.generation if before else None
    state = State.STALE if generation else State.BROKEN
    return Serving(agent_id, folder.path, folder.created, state, generation, problems)


def _reverted(folder: scan.Folder, digest: str, before: Mapping[str, Serving]) -> dict[str, Serving]:
    """The agents that serve the very content that is on the disk again after a broken edit."""
    if not before or any(one.generation is None or one.generation.digest != digest for one in before.values()):
        return {}
    numbers = {one.generation.number for one in before.values() if one.generation}
    if len(numbers) > 1 or any(one.folder != folder.path for one in before.values()):
        return {}
    return {
        agent_id: Serving(agent_id, folder.path, folder.created, State.LIVE, one.generation)
        for agent_id, one in before.items()
    }


def _stale(serving: Serving) -> Serving:
    return replace(serving, state=State.STALE) if serving.state == State.LIVE else serving


def _with_problems(serving: Serving, problems: tuple[Problem, ...]) -> Serving:
    return Serving(serving.agent_id, serving.folder, serving.created, serving.state, serving.generation, problems)


def _generations(agents: Mapping[str, Serving]) -> list[Generation]:
    return [one.generation for one in agents.values() if one.generation]


def _log(agents: Iterable[Serving]) -> None:
    for one in agents:
        errors = [f"{problem.code}: {problem.reason} {problem.place}" for problem in one.problems]
        _remember(one)
        with context.bound(agent=one.agent_id, module_path=str(one.folder / AGENT_FILE)):
            if one.state == State.LIVE:
                log.info("agent_loaded", version=_version(one), problems=errors)
            else:
                failed_to_load(one.problems)
                log.error("agent_not_loaded", state=one.state.value, problems=errors)


def _remember(serving: Serving) -> None:
    for problem in serving.problems:
        if problem.is_error:
            error_ring.note(
                "discover",
                code=problem.code,
                subject=serving.agent_id,
                message=problem.reason,
                remedy=problem.remedy,
                facts={"agent": serving.agent_id, "file": problem.file},
                last={"line": problem.line, "state": serving.state.value},
            )


def _version(serving: Serving) -> str:
    return serving.generation.digest[:12] if serving.generation else ""
