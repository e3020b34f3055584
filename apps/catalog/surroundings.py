"""The parts of the process that a module may change while it is imported, and their way back."""

import asyncio
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import takewhile
from pathlib import Path

import structlog
from dotenv import dotenv_values

from apps.catalog import streams
from apps.catalog.packages import PREFIX
from apps.catalog.shared_state import SharedState

# AsyncOpenAI() at import needs a key. It is never sent: the gateway's own clients carry the upstreams' keys.
PLACEHOLDER_KEY = "sk-placeholder-of-the-agent-gateway"
_KEY = "OPENAI_API_KEY"

log = structlog.get_logger(__name__)


# The OPENAI_API_KEY in the environment when a drop-in's .env gave it; the operator's own is never exchanged.
_key_of_a_drop_in = ""


@contextmanager
def restored(agent_id: str, folder: Path, shared: SharedState) -> Iterator[None]:
    """Undo what happens inside to sys.path, sys.argv, the streams, the working folder, the SDK's defaults, logging...

    These belong to the whole process, so only one import may be inside at a time. Changes of the environment stay (a
    module that calls load_dotenv() reads them later); they are logged by name.
    """
    with ExitStack() as stack:
        stack.callback(_report_environment, agent_id, _environment())
        stack.enter_context(shared.restored())
        stack.enter_context(streams.lent())
        for keep in (_keep_sys, _keep_folder, _keep_sdk_defaults):
            stack.callback(keep())
        stack.callback(_keep_modules(folder))
        stack.callback(_lend_key(folder))
        sys.argv = [str(folder / "agent.py")]
        yield


@contextmanager
def own_loop() -> Iterator[None]:
    """An event loop for `asyncio.get_event_loop()`, as a script's main thread has one; closed afterwards.

    It is Python's own kind, because what patches loops to let them nest knows no other.
    """
    policy, loop = asyncio.get_event_loop_policy(), asyncio.SelectorEventLoop()
    policy.set_event_loop(loop)
    try:
        yield
    finally:
        loop.close()
        policy.set_event_loop(None)


def _lend_key(folder: Path) -> Callable[[], None]:
    """An API key for the import: the operator's, else that of the drop-in's .env, else the placeholder.

    load_dotenv() leaves alone what the environment has, and so would not get past a placeholder; hence the .env is
    read here first. Its key stays afterwards as if load_dotenv() had set it, but no other drop-in is given it.
    """
    global _key_of_a_drop_in  # noqa: PLW0603  # belongs to the environment, of which there is one
    given = os.environ.get(_KEY, "")
    if given and given != _key_of_a_drop_in:
        return lambda: None
    own = _key_in_dotenv(folder)
    os.environ[_KEY] = own or PLACEHOLDER_KEY
    if own:
        _key_of_a_drop_in = own

    def undo() -> None:
        if os.environ.get(_KEY) != PLACEHOLDER_KEY:
            return
        if given:
            os.environ[_KEY] = given
        else:
            del os.environ[_KEY]

    return undo


def _key_in_dotenv(folder: Path) -> str | None:
    """From the .env that load_dotenv() would find: the nearest one upwards."""
    nearest = next((path for one in (folder, *folder.parents) if os.path.isfile(path := f"{one}/.env")), None)  # noqa: PTH113  # at every load
    try:
        return dotenv_values(nearest).get(_KEY) if nearest else None
    except (OSError, UnicodeDecodeError):  # the module that loads it fails at it too, and says so
        return None


def _keep_sys() -> Callable[[], None]:
    path, entries, argv = sys.path, list(sys.path), sys.argv

    def undo() -> None:
        path[:] = entries
        sys.path, sys.argv = path, argv

    return undo


def _keep_folder() -> Callable[[], None]:
    before = os.getcwd()  # noqa: PTH109  # at every load

    def undo() -> None:
        with suppress(OSError):  # it was removed meanwhile
            os.chdir(before)

    return undo


def _keep_sdk_defaults() -> Callable[[], None]:
    from agents.tracing import setup as tracing

    from apps.catalog import own_client

    kept = own_client.defaults()
    provider = tracing.GLOBAL_TRACE_PROVIDER

    def undo() -> None:
        own_client.restore(kept)
        tracing.GLOBAL_TRACE_PROVIDER = provider

    return undo


def _keep_modules(folder: Path) -> Callable[[], None]:
    """The drop-in's files may have been imported by their plain names too (sys.path edits, import_module("tools"))."""
    last = next(reversed(sys.modules))

    def undo() -> None:
        # New names stand last. Without Python code in between, nobody else can add one meanwhile.
        for name in list(takewhile(last.__ne__, reversed(sys.modules))):
            file = getattr(sys.modules[name], "__file__", None)
            if file and not name.startswith(f"{PREFIX}.") and Path(file).is_relative_to(folder):
                del sys.modules[name]

    return undo


def _environment() -> dict[bytes, bytes]:
    """A copy in a microsecond: os.environ itself would decode every name and value, twice for every load."""
    data: dict[bytes, bytes] = os.environ._data  # type: ignore[attr-defined]  # noqa: SLF001
    return data.copy()


def _report_environment(agent_id: str, before: dict[bytes, bytes]) -> None:
    after = _environment()
    if after != before:
        changed = (name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
        log.info("agent_changed_environment", agent=agent_id, names=sorted(map(os.fsdecode, changed)))
