"""The catalog of this process: which agents exist, and which one a model name means.

Everything that is read here is memory: discovery replaces one immutable picture, live configuration another, and the
two are joined when either is new.
"""

import difflib
import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from types import MappingProxyType

import structlog
from django.conf import settings
from django.db import connection

from apps.catalog import answering, modules, recording, scan, watch
from apps.catalog.declared import Declared, declared_agents, texts
from apps.catalog.declared_problems import Judge
from apps.catalog.diagnostics import Problem
from apps.catalog.generations import Changes, Found, Generation, Generations, Serving
from apps.catalog.models import AgentSettings, DeclaredAgent, State
from apps.catalog.options import DEFAULT, LoadOptions
from apps.catalog.pass_through import PassThrough, offered
from apps.catalog.pinned_folders import pinned_folders
from apps.catalog.run_options import DEFAULT as DEFAULT_OPTIONS
from apps.catalog.run_options import NAMESPACES, RunOptions, run_options
from apps.catalog.watch import Mode
from apps.core import live_config
from apps.core.errors import ModelNotFound
from apps.observability import context
from apps.tools.in_force import tools
from apps.tools.tool import Tool
from apps.upstreams.models import Upstream
from apps.upstreams.routing import NO_PREFERENCE, ModelRef, Preference, Table, upstreams

__all__ = [
    "Changes",
    "Discovery",
    "Entry",
    "Generation",
    "Mode",
    "Problem",
    "declared_entries",
    "declared_entry",
    "discovery_mode",
    "entries",
    "near_ids",
    "problems",
    "refresh",
    "resolve",
]

SETTLE_SECONDS = 0.1  # a folder must look the same for so long before it is judged: editors save in several steps

_NAME_LENGTH = 200  # a longer model name is compared with nothing

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Entry:
    """An agent as the other apps see it. Disabled and broken ones are here too: their state says so."""

    agent_id: str
    name: str  # the SDK agent's own name, else the folder's
    description: str  # handoff_description, else the first paragraph of the module's docstring
    digest: str  # of the serving version, "" when none serves
    created: int  # unix seconds: when agent.py was last written
    state: State
    enabled: bool
    aliases: tuple[str, ...]
    problems: tuple[Problem, ...]
    serves: Generation | Declared | PassThrough | None  # None when no version of a module loads
    options: RunOptions = DEFAULT_OPTIONS

    @property
    def generation(self) -> Generation | None:
        """Of a drop-in that loads."""
        return self.serves if isinstance(self.serves, Generation) else None


# --- the operators' settings -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Setting:
    enabled: bool = True
    aliases: tuple[str, ...] = ()
    load: LoadOptions = DEFAULT
    run: RunOptions = DEFAULT_OPTIONS


def _load_settings() -> Mapping[str, _Setting]:
    rows = AgentSettings.objects.select_related("drop_in", "upstream")
    return MappingProxyType({one.drop_in.agent_id: _setting(one) for one in rows})


def _setting(row: AgentSettings) -> _Setting:
    options = LoadOptions(dry_run=row.dry_run, build_per_run=row.build_per_run, own_client=row.own_client)
    return _Setting(row.enabled, texts(row.aliases), options, run_options(row))


SETTINGS = live_config.section("catalog.settings", _load_settings, reads=[AgentSettings, Upstream])


# --- the catalog -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Sources:
    """What the catalog is made of; each is replaced whole when it changes."""

    found: Found
    settings: Mapping[str, _Setting]
    namespaces: Mapping[str, ModelRef]
    declared: Mapping[str, Declared]
    tools: Mapping[str, Tool]
    table: Table

    def are(self, other: "_Sources") -> bool:
        return (
            self.found is other.found
            and self.settings is other.settings
            and self.namespaces is other.namespaces
            and self.declared is other.declared
            and self.tools is other.tools
            and self.table is other.table
        )

    @property
    def preferences(self) -> Mapping[str, Preference]:
        """Of the drop-ins for which operators chose a model, or have one for their namespace."""
        return {id: prefer for id in self.found.agents if (prefer := self._preference(id)) != NO_PREFERENCE}

    def _preference(self, agent_id: str) -> Preference:
        setting = self.settings.get(agent_id)
        default = self.namespaces.get(agent_id.partition("/")[0], DEFAULT_OPTIONS.model)
        return Preference(setting.run.model if setting else DEFAULT_OPTIONS.model, default)


class _Catalog:
    """What discovery found, joined with the upstreams and the settings; declared agents; models of upstreams."""

    def __init__(self, sources: _Sources) -> None:
        before = _catalog
        self.sources = sources
        self.snapshot: live_config.Snapshot | None = None  # of which it is known to be made of these sources
        self.found, self.table, self.preferences = sources.found, sources.table, sources.preferences
        found, settings_by_id, table = sources.found, sources.settings, sources.table
        self.tools = sources.tools.keys()
        # Most changes of configuration are others.
        same = (
            before
            and before.found is found
            and before.table == table
            and before.tools == self.tools
            and before.preferences == self.preferences
        )
        self.joined: Found = (
            before.joined if before and same else answering.joined(found, table, self.tools, self.preferences)
        )
        drop_ins = {
            id: _entry(serving, settings_by_id.get(id, _Setting())) for id, serving in self.joined.agents.items()
        }
        # Of the same id a folder serves before a declared agent, and either before an upstream's model.
        judge = Judge(table=table, tools=sources.tools, namespaces=sources.namespaces, folders=found.agents)
        self.declared = {id: declared_entry(one, judge.problems_of(one)) for id, one in sources.declared.items()}
        others = (*self.declared.values(), *map(_model_entry, offered(table)))
        entries = {**{one.agent_id: one for one in reversed(others)}, **drop_ins}
        self.entries: Mapping[str, Entry] = MappingProxyType(dict(sorted(entries.items())))

    @cached_property
    def names(self) -> tuple[Mapping[str, frozenset[str]], ...]:
        """Casefolded names to the ids that they may mean, the more binding kinds of name first."""
        values = self.entries.values()
        ids = _index((one.agent_id, one.agent_id) for one in values)
        aliases = _index((alias, one.agent_id) for one in values for alias in one.aliases)
        names = _index((name, one.agent_id) for one in values for name in _own_names(one, self.found) if name)
        return ids, aliases, names


def _entry(serving: Serving, setting: _Setting) -> Entry:
    generation = serving.generation
    node = generation.node if generation else None
    serves = serving.state != State.BROKEN  # a version may load, and no upstream have what it needs
    return Entry(
        agent_id=serving.agent_id,
        name=node.name if node else serving.folder.name,
        description=generation.description if generation else "",
        digest=generation.digest if generation and serves else "",
        created=serving.created,
        state=serving.state,
        enabled=setting.enabled,
        aliases=setting.aliases,
        problems=serving.problems,
        serves=generation if serves else None,
        options=setting.run,
    )


def declared_entry(one: Declared, problems: tuple[Problem, ...] = ()) -> Entry:
    """Of a declared agent, in whichever stage."""
    serves = not any(problem.code == "no_upstream" for problem in problems)
    return Entry(
        agent_id=one.agent_id,
        name=one.name,
        description=one.description,
        digest=one.digest,
        created=one.created,
        state=State.LIVE if serves else State.BROKEN,
        enabled=one.stage == DeclaredAgent.Stage.LIVE,
        aliases=one.aliases,
        problems=problems,
        serves=one if serves else None,
        options=one.options,
    )


def _model_entry(one: PassThrough) -> Entry:
    return Entry(
        agent_id=one.agent_id,
        name=one.agent_id,
        description=f"The model {one.model} of {one.upstream}, as it is.",
        digest="",
        created=0,
        state=State.LIVE,
        enabled=True,
        aliases=(),
        problems=(),
        serves=one,
    )


def _own_names(entry: Entry, found: Found) -> Iterator[str]:
    if isinstance(entry.serves, PassThrough):  # its own name would shadow agents that are called alike
        return
    yield entry.agent_id.rpartition("/")[2]
    yield entry.name
    if entry.agent_id not in found.agents:
        return
    folder = found.agents[entry.agent_id].folder.name
    if "." not in entry.agent_id.rpartition("/")[2] or "." in folder:  # one of several does not answer to the folder
        yield folder


def _index(pairs: Iterable[tuple[str, str]]) -> Mapping[str, frozenset[str]]:
    index: dict[str, set[str]] = defaultdict(set)
    for name, agent_id in pairs:
        index[name.casefold()].add(agent_id)
    return {name: frozenset(ids) for name, ids in index.items()}


_found = Found()
_catalog: _Catalog | None = None


def _current() -> _Catalog:
    global _catalog  # noqa: PLW0603  # the one reference that is swapped; readers take it once
    catalog, snapshot = _catalog, live_config.current()
    if catalog is None or catalog.sources.found is not _found or catalog.snapshot is not snapshot:
        sources = _sources(_found)
        if catalog is None or not catalog.sources.are(sources):
            catalog = _catalog = _Catalog(sources)
        catalog.snapshot = snapshot
    return catalog


def _sources(found: Found) -> _Sources:
    return _Sources(
        found=found,
        settings=SETTINGS.current(),
        namespaces=NAMESPACES.current(),
        declared=declared_agents(),
        tools=tools(),
        table=upstreams.current(),
    )


def entries() -> Mapping[str, Entry]:
    """Every agent of this process by its id. Reads memory only."""
    return _current().entries


def declared_entries() -> Mapping[str, Entry]:
    """Every declared agent by its id, those included whose id a folder has taken. Reads memory only."""
    return _current().declared


def problems() -> tuple[tuple[str, Problem], ...]:
    """Every diagnostic with the agent id that it concerns, those of ids without an entry included."""
    found, declared = _current().joined, _current().declared.values()
    return (
        *((id, one) for id, serving in found.agents.items() for one in serving.problems),
        *((entry.agent_id, one) for entry in declared if entry.enabled for one in entry.problems),
        *found.others,
    )


def resolve(model: str, *, visible: Callable[[str], bool] | None = None) -> Entry:
    """The agent that a model name means: its id, else an alias, its folder's or the SDK agent's own name.

    Names other than the exact id do not count case, and have to be unambiguous among the ids that are `visible`.
    Disabled and broken agents are returned as well. Raises ModelNotFound, which names at most three near ids.
    """
    catalog = _current()
    if exact := catalog.entries.get(model):
        return exact
    name = model.casefold() if len(model) <= _NAME_LENGTH else ""
    for index in catalog.names:
        meant = [one for one in index.get(name, ()) if visible is None or visible(one)]
        if len(meant) == 1:
            return catalog.entries[meant[0]]
        if meant:
            raise ModelNotFound(f"The model {model!r} may mean {_either(sorted(meant))}. Use one id.", param="model")
    raise ModelNotFound(_not_found(catalog, model[:_NAME_LENGTH], visible), param="model")


def _not_found(catalog: _Catalog, model: str, visible: Callable[[str], bool] | None) -> str:
    near = near_ids(model, [one for one in catalog.entries if visible is None or visible(one)])
    return f"The model {model!r} does not exist." + (f" Did you mean {_either(near)}?" if near else "")


def _either(ids: list[str]) -> str:
    quoted = [f"{one!r}" for one in ids[:3]]
    return " or ".join([", ".join(quoted[:-1]), quoted[-1]] if len(quoted) > 1 else quoted)


def near_ids(model: str, among: Iterable[str]) -> list[str]:
    """At most three ids that look like what was asked for, the nearest first."""
    by_text: dict[str, str] = {}
    for agent_id in among:
        by_text.setdefault(agent_id.rpartition("/")[2], agent_id)
        by_text[agent_id] = agent_id
    close = difflib.get_close_matches(model[:_NAME_LENGTH].casefold(), by_text, n=6)
    return list(dict.fromkeys(by_text[text] for text in close))[:3]


# --- discovery -------------------------------------------------------------------------------------------------------

_generations = Generations()
_scanner = scan.Scanner(())
_gate = modules.Gate()
_changes: watch.Changes | None = None  # of the process's Discovery
_refreshing = threading.Lock()
_scanning = threading.Lock()


def refresh() -> Changes:
    """Look at the folders now: load what changed, swap the catalog, record the state.

    Uses the database of the calling thread; a database that fails is logged, and written at the next call.
    """
    return _take(_scan())


def discovery_mode() -> Mode:
    """How this process follows the folders from now on. Reads memory only."""
    return _changes.mode if _changes else Mode("off", "This process does not follow the discovery folders.")


def _scan(changed: Collection[Path] | None = None) -> scan.Scan:
    """What lies in the folders: read again where it belongs to what `changed`, everywhere without that."""
    global _scanner  # noqa: PLW0603  # a new one has seen nothing yet
    with _scanning:
        if changed is None:
            _scanner = scan.Scanner(
                settings.GATEWAY_AGENT_DISCOVERY_PATH,
                settings.GATEWAY_AGENT_DISCOVERY_ALLOWLIST,
                settings.GATEWAY_AGENT_DISCOVERY_DENYLIST,
            )
        return pinned_folders.in_place(_gate.admitted(_scanner.look(changed)))


def _load_options() -> Mapping[str, LoadOptions]:
    return {agent_id: setting.load for agent_id, setting in SETTINGS.current().items()}


def _denied_imports() -> tuple[str, ...]:
    return modules.POLICY.current().denied_imports


def _take(seen: scan.Scan) -> Changes:
    with _refreshing:
        changes = _generations.follow(seen, _load_options(), _denied_imports(), frozenset(tools()))
        found = _generations.found()
        if changes or found.others != _found.others or found.agents != _found.agents:
            _publish(found)
        _generations.retire_replaced()
        recording.record_if_new(_current().joined)
    if changes:
        log.info("agents_refreshed", loaded=changes.loaded, failed=changes.failed, gone=changes.gone)
    return changes


def _publish(found: Found) -> None:
    """Joined with the settings and indexed before it is swapped in: no request waits for that on the event loop."""
    global _found, _catalog  # swapped whole
    catalog = _Catalog(_sources(found))
    _ = catalog.names
    _catalog, _found = catalog, found


class Discovery:
    """The discovery of a server process."""

    def __init__(self) -> None:
        self._stopping = threading.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._discover, name="agent-discovery", daemon=True)

    def start(self) -> None:
        """Everything is loaded when it returns. A thread follows the folders and the operators' settings from then on,
        as `discovery_mode` says."""
        self._thread.start()
        self._ready.wait()

    def stop(self) -> None:
        self._stopping.set()
        if _changes:
            _changes.wake()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    def _discover(self) -> None:
        """In a thread of its own from the first scan on: the caller may sit on an event loop, where Django's ORM does
        not work, and one thread's database connection is easily closed."""
        global _changes  # noqa: PLW0603  # told by discovery_mode
        context.begin(stage="discover")
        try:
            changes = _changes = watch.Changes(settings.GATEWAY_AGENT_DISCOVERY_PATH, _linked)
            complete = self._succeeds(refresh)
            self._ready.set()
            while not self._stopping.is_set():
                changes.wait()
                complete = self._succeeds(partial(self._follow, changes, everywhere=not complete))
        finally:
            self._ready.set()
            if _changes:
                _changes.close()
                _changes = None
            connection.close()

    def _succeeds(self, look: Callable[[], object]) -> bool:
        try:
            look()
        except Exception:  # whatever it is, the next look must still happen
            log.exception("discovery_failed")
            return False
        return True

    def _follow(self, changes: watch.Changes, *, everywhere: bool) -> None:
        """Folders that change while we look are left as they were until the next time."""
        changed = changes.take()
        if changed is not None and changes.is_net_due():
            self._cast_net(changes, changed)
        seen = _scan(None if everywhere else changed)
        if _generations.is_current(seen, _load_options(), _denied_imports(), frozenset(tools())):
            recording.record_if_new(_current().joined)
            return
        moving = _generations.unfollowed(seen)
        if moving:
            self._stopping.wait(SETTLE_SECONDS)
            later = changes.take()
            again = _scan(None if later is None else later | moving)
            seen = _generations.settled(seen, again)
        if self._stopping.is_set():
            return
        _take(seen)
        if moving and _generations.unfollowed(again):
            changes.expect_more()

    def _cast_net(self, changes: watch.Changes, named: set[Path]) -> None:
        """A change that nothing named, now or a moment later, shows that the watch does not work here."""
        before = _scanner.folders()
        _scan()
        differing = {path for path, _ in before.items() ^ _scanner.folders().items()} - _linked()
        if not differing:
            return
        self._stopping.wait(SETTLE_SECONDS)
        later = changes.take()
        _scan(later)
        if later is not None:
            everything = named | later
            missed = sorted(path for path in differing if not any(one.is_relative_to(path) for one in everything))
            if missed:
                changes.give_up(
                    f"A change in {missed[0]} was not reported by the operating system, as on network file systems and "
                    "some container mounts."
                )


def _linked() -> set[Path]:
    return _scanner.linked()
