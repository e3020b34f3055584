"""Loads one version of a drop-in completely, or not at all."""

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from django.conf import settings

from apps.catalog import diagnostics, surroundings
from apps.catalog.diagnostics import Problem
from apps.catalog.options import DEFAULT, LoadOptions
from apps.catalog.packages import Package
from apps.catalog.scan import AGENT_FILE

if TYPE_CHECKING:  # it imports the SDK, which takes seconds
    from apps.catalog.exports import Findings, Published

# One import at a time: the parts of the process that are restored afterwards belong to everybody.
_one_at_a_time = threading.Lock()

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Import:
    """What the loading thread leaves behind."""

    package: Package
    findings: "Findings | None" = None
    error: BaseException | None = None
    timed_out: bool = False
    finished: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True, slots=True)
class Loaded:
    """`package` is retained once for the caller, who releases it; None when nothing can serve."""

    package: Package | None
    published: tuple["Published", ...]
    problems: tuple[Problem, ...]


def load(agent_id: str, folder: Path, options: LoadOptions = DEFAULT) -> Loaded:  # noqa: ARG001
    """Import the folder as a new package and find what it exports. Never raises for the drop-in's own faults."""
    from apps.catalog import exports, tracing  # noqa: F401  # the SDK comes before any module, and outside the timeout

    tracing.install()
    package = Package(agent_id, folder)
    package.retain()
    with _one_at_a_time, surroundings.restored(agent_id, folder):
        attempt = _import_in_thread(package)
    problems = _problems(attempt)
    published = attempt.findings.published if attempt.findings else ()
    if not any(not one.is_refused for one in published):
        package.release()
        return Loaded(None, published, problems)
    return Loaded(package, published, problems)


def published_id(agent_id: str, published: "Published") -> str:
    """`default/desk`, or `default/desk.triage` when the module publishes several agents."""
    return f"{agent_id}.{published.suffix.lower()}" if published.suffix else agent_id


def _import_in_thread(package: Package) -> _Import:
    """Imports in a thread of its own, which has no event loop, so that asyncio.run() works at import.

    A thread cannot be killed. One that does not end in time is left behind as a daemon: it holds no lock of ours and
    its package is taken out of sys.modules, so that later loads go on. Interrupting it with an exception could leave a
    slow library half imported for everybody; left alone, it completes, and the next attempt finds it there.
    """
    attempt = _Import(package)
    thread = threading.Thread(target=_import, args=(attempt,), name=f"load {package.name}", daemon=True)
    thread.start()
    if not attempt.finished.wait(settings.GATEWAY_AGENT_IMPORT_TIMEOUT):
        log.error("agent_import_left_behind", package=package.name)
        return _Import(package, timed_out=True)
    thread.join()
    return attempt


def _import(attempt: _Import) -> None:
    from apps.catalog import exports, source

    package = attempt.package
    try:
        text = (package.folder / AGENT_FILE).read_bytes()
        module = package.import_module("agent")
        attempt.findings = exports.find_exports(module, source.read(text), package.folder)
    except BaseException as error:  # noqa: BLE001  # modules call exit() and raise KeyboardInterrupt: all is reported
        attempt.error = error
    finally:
        attempt.finished.set()


def _problems(attempt: _Import) -> tuple[Problem, ...]:
    from apps.catalog import exports

    folder, error = attempt.package.folder, attempt.error
    if attempt.timed_out:
        return (diagnostics.timed_out(folder, settings.GATEWAY_AGENT_IMPORT_TIMEOUT),)
    if error is None:
        return attempt.findings.problems if attempt.findings else ()
    if isinstance(error, exports.FactoryFailed):
        return (exports.explain_factory(error, folder),)
    return (diagnostics.from_exception(error, folder),)
