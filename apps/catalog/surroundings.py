"""The parts of the process that a module may change while it is imported, and their way back."""

import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import structlog

from apps.catalog.packages import PREFIX

# AsyncOpenAI() at import needs a key. It is never sent: the gateway's own clients carry the upstreams' keys.
PLACEHOLDER_KEY = "sk-placeholder-of-the-agent-gateway"
_KEY = "OPENAI_API_KEY"

log = structlog.get_logger(__name__)


@contextmanager
def restored(agent_id: str, folder: Path) -> Iterator[None]:
    """Undo what happens inside to sys.path, sys.argv, stdin, the working folder and the SDK's defaults.

    These belong to the whole process, so only one import may be inside at a time. Changes of the environment stay (a
    module that calls load_dotenv() reads them later); they are logged by name.
    """
    undo = [_keep_sys(), _keep_folder(), _keep_sdk_defaults(), _keep_modules(folder)]
    before = dict(os.environ)
    os.environ.setdefault(_KEY, PLACEHOLDER_KEY)
    sys.argv = [str(folder / "agent.py")]
    sys.stdin = io.StringIO()
    try:
        yield
    finally:
        if os.environ.get(_KEY) == PLACEHOLDER_KEY:
            del os.environ[_KEY]
        for one in undo:
            one()
        _report_environment(agent_id, before)


def _keep_sys() -> Callable[[], None]:
    path, entries, argv, stdin = sys.path, list(sys.path), sys.argv, sys.stdin

    def undo() -> None:
        path[:] = entries
        sys.path, sys.argv, sys.stdin = path, argv, stdin

    return undo


def _keep_folder() -> Callable[[], None]:
    before = Path.cwd()

    def undo() -> None:
        with suppress(OSError):  # it was removed meanwhile
            os.chdir(before)

    return undo


def _keep_sdk_defaults() -> Callable[[], None]:
    from agents.models import _openai_shared as defaults
    from agents.tracing import setup as tracing

    kept = {name: value for name, value in vars(defaults).items() if name.startswith(("_default_openai", "_use_resp"))}
    provider = tracing.GLOBAL_TRACE_PROVIDER

    def undo() -> None:
        vars(defaults).update(kept)
        tracing.GLOBAL_TRACE_PROVIDER = provider

    return undo


def _keep_modules(folder: Path) -> Callable[[], None]:
    """The drop-in's files may have been imported by their plain names too (sys.path edits, import_module("tools"))."""
    before = set(sys.modules)

    def undo() -> None:
        for name in set(sys.modules) - before:
            file = getattr(sys.modules[name], "__file__", None)
            if file and not name.startswith(f"{PREFIX}.") and Path(file).is_relative_to(folder):
                del sys.modules[name]

    return undo


def _report_environment(agent_id: str, before: dict[str, str]) -> None:
    after = dict(os.environ)
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    if changed:
        log.info("agent_changed_environment", agent=agent_id, names=changed)
