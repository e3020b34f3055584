"""Loads one version of a drop-in completely, or not at all."""

import threading
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Self

import structlog
from django.conf import settings

from apps.catalog import apart, diagnostics, import_policy, program, scan, surroundings
from apps.catalog.diagnostics import Problem
from apps.catalog.import_policy import Denied
from apps.catalog.import_thread import ImportThread
from apps.catalog.options import DEFAULT, LoadOptions
from apps.catalog.packages import Package
from apps.catalog.scan import AGENT_FILE
from apps.catalog.shared_state import SharedState
from apps.observability import context

if TYPE_CHECKING:  # they import the SDK, which takes seconds
    from agents import ModelProvider

    from apps.catalog.exports import Findings, Published
    from apps.catalog.own_client import OwnClient
    from apps.catalog.source import Source

_MOST_DENIED = 20  # imports that are told of one folder

# One import at a time: the parts of the process that are restored afterwards belong to everybody.
_one_at_a_time = threading.Lock()

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Import:
    """What the loading thread leaves behind."""

    package: Package
    options: LoadOptions
    findings: "Findings | None" = None
    own_client: "OwnClient | None" = None
    error: BaseException | None = None
    ended_by: BaseException | None = None  # agent.py, before its last line; what it had defined by then serves
    is_dry_run: bool = False
    program_failed: Problem | None = None  # in a dry run that something serves in spite of
    timed_out: bool = False


@dataclass(frozen=True, slots=True)
class Loaded:
    """`package` is retained once for the caller, who releases it; None when nothing can serve."""

    package: Package | None
    published: tuple["Published", ...]
    problems: tuple[Problem, ...]
    model_provider: "ModelProvider | None" = None  # the module's own, when the operator lets it have its way


def load(agent_id: str, folder: Path, options: LoadOptions = DEFAULT, denied_imports: tuple[str, ...] = ()) -> Loaded:
    """Import the folder as a new package and find what it exports. Never raises for the drop-in's own faults.

    Nothing is executed when a file of the folder imports what is denied.
    """
    with Loads(denied_imports) as loads:
        return loads.load(agent_id, folder, options)


class Loads:
    """Loads that follow each other: what costs as much as a small module's import is done once for all of them."""

    def __init__(self, denied_imports: tuple[str, ...] = ()) -> None:
        self.denied_imports = denied_imports
        self._thread = ImportThread()
        self._shared: SharedState | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.end()

    def load(self, agent_id: str, folder: Path, options: LoadOptions) -> Loaded:
        """As the function above does."""
        if found := denied_in_folder(folder, self.denied_imports):
            return Loaded(None, (), tuple(map(diagnostics.denied_import, found)))
        from apps.catalog import dry_run, exports, tracing  # noqa: F401  # the SDK comes before any module, untimed

        tracing.install()
        dry_run.install()
        package = Package(agent_id, folder, self.denied_imports)
        package.retain()
        with _one_at_a_time, context.bound(agent=agent_id, module_path=package.module_path):
            self._shared = self._shared or SharedState()
            with surroundings.restored(agent_id, folder, self._shared):
                attempt = self._attempt(package, options)
        problems = _problems(attempt)
        published = attempt.findings.published if attempt.findings else ()
        if not any(not one.is_refused for one in published):
            package.release()
            return Loaded(None, published, problems)
        package.keep_path()
        provider = attempt.own_client.provider() if attempt.own_client and options.own_client else None
        return Loaded(package, published, problems, provider)

    def _attempt(self, package: Package, options: LoadOptions) -> _Import:
        """A thread that is left behind holds no lock of ours, and its package is taken out of sys.modules: later loads
        go on."""
        attempt = _Import(package, options)
        timeout = settings.GATEWAY_AGENT_IMPORT_TIMEOUT
        if self._thread.run(partial(_import, attempt), timeout, name=f"load {package.name}"):
            return attempt
        log.error("agent_import_left_behind", package=package.name)
        findings = attempt.findings if attempt.is_dry_run else None
        return _Import(package, options, findings, is_dry_run=attempt.is_dry_run, timed_out=True)


def denied_in_folder(folder: Path, patterns: tuple[str, ...]) -> list[Denied]:
    """The first of the imports that `patterns` forbid, in any Python file that counts as the folder's."""
    names = sorted(name for name, *_ in scan.fingerprint(folder) if name.endswith(".py")) if patterns else ()
    found = (one for name in names for one in _denied_in_file(folder / name, patterns))
    return list(islice(found, _MOST_DENIED))


def _denied_in_file(file: Path, patterns: tuple[str, ...]) -> list[Denied]:
    try:
        return import_policy.denied_in(file.read_bytes(), str(file), patterns)
    except OSError:  # unreadable, or gone since it was listed: it cannot be imported
        return []


def published_id(agent_id: str, published: "Published") -> str:
    """`default/desk`, or `default/desk.triage` when the module publishes several agents."""
    return f"{agent_id}.{published.suffix.lower()}" if published.suffix else agent_id


def _import(attempt: _Import) -> None:
    from apps.catalog import own_client

    context.begin(stage="discover", agent=attempt.package.agent_id, module_path=attempt.package.module_path)
    try:
        is_dry = attempt.options.dry_run or settings.GATEWAY_AGENT_DRY_RUN
        before = own_client.defaults()
        with surroundings.own_loop(), attempt.package.loading(), program.watched(answers=is_dry) as running:
            attempt.findings = _find(attempt)
            if is_dry and (attempt.findings.lack_an_agent or attempt.findings.lack_a_context):
                _run_dry(attempt, running)
        attempt.own_client = own_client.wished(before)
    except BaseException as error:  # noqa: BLE001  # modules call exit() and raise KeyboardInterrupt: all is reported
        attempt.error = error


def _find(attempt: _Import) -> "Findings":
    from apps.catalog import exports

    package = attempt.package
    module = package.import_module("agent")
    attempt.ended_by, package.ended_by = package.ended_by, None  # its traceback holds the module
    source = _source(package)
    return exports.find_exports(module, source, package.folder, build_per_run=attempt.options.build_per_run)


def _source(package: Package) -> "Source":
    file = package.folder / AGENT_FILE
    return apart.source(file.read_bytes(), str(file))


def _run_dry(attempt: _Import, running: program.Program) -> None:
    """Completes the findings with what the module's program runs. Raises what it raises when nothing can serve."""
    from agents import Agent

    from apps.catalog import absent, dry_run, exports, graph

    package, found = attempt.package, attempt.findings
    assert found is not None
    if (code := _source(package).program) is None:
        return
    attempt.is_dry_run = True
    try:
        dry_run.run(_agent_module(package), code, running)
    except BaseException as error:  # programs call exit() as well; told as a problem, or raised
        built = exports.only_root(running.built)
        if not found.published and built is None:
            raise
        running.agent = built
        attempt.program_failed = diagnostics.from_exception(error, package.folder, stage="dry_run")
    if found.published:
        attempt.findings = exports.in_context(found, running.context)
    elif isinstance(running.agent, Agent):
        if any(map(absent.is_part_of, graph.reachable(running.agent))):
            raise absent.not_installed(next(iter(package.absent)))
        attempt.findings = exports.of_program(running.agent, running.context, package.folder)


def _agent_module(package: Package) -> ModuleType:
    return package.modules[f"{package.name}.agent"]


# --- what went wrong -------------------------------------------------------------------------------------------------


def _problems(attempt: _Import) -> tuple[Problem, ...]:
    from apps.catalog import own_client

    folder, findings = attempt.package.folder, attempt.findings
    if attempt.timed_out:
        problem = diagnostics.timed_out(folder, settings.GATEWAY_AGENT_IMPORT_TIMEOUT, is_dry_run=attempt.is_dry_run)
        return (diagnostics.warning(problem),) if findings and findings.published else (problem,)
    if attempt.error or findings is None:
        return (_explained(attempt, attempt.error),)
    problems = [*findings.problems, *_absent(attempt.package)]
    if attempt.ended_by and findings.published:
        problems.append(diagnostics.stopped(attempt.ended_by, folder))
    elif attempt.ended_by:
        problems = [diagnostics.from_exception(attempt.ended_by, folder)]
    elif attempt.is_dry_run and not findings.published:
        problems[: len(findings.problems)] = [diagnostics.no_agent_run(folder)]
    if attempt.program_failed:
        problems.append(diagnostics.warning(attempt.program_failed))
    if attempt.own_client and not attempt.options.own_client:
        problems.append(own_client.ignored(attempt.own_client, folder))
    return tuple(problems)


def _absent(package: Package) -> list[Problem]:
    file = package.folder / AGENT_FILE
    return [diagnostics.absent(name, file, line) for name, line in package.absent.items()]


def _explained(attempt: _Import, error: BaseException | None) -> Problem:
    from apps.catalog import exports, not_chat

    folder = attempt.package.folder
    if isinstance(error, exports.FactoryFailed):
        return diagnostics.from_exception(error.__cause__ or error, folder, stage="factory")
    assert error is not None
    if isinstance(error, ImportError) and (found := not_chat.in_source(_source(attempt.package), folder / AGENT_FILE)):
        return found
    return diagnostics.from_exception(error, folder, stage="dry_run" if attempt.is_dry_run else "import")
