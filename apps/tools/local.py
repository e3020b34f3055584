"""Tools that are Python functions of allowed modules.

A module is imported once, in a thread of its own, and never again in the same process: what changed in its file counts
after a restart. The schema is the one that the SDK's `function_tool` makes, without its strict mode: a default stays
optional, whatever the model's server takes.
"""

import asyncio
import importlib
import inspect
import threading
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from contextvars import copy_context
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from types import ModuleType
from typing import Any, Final

import structlog
from django.conf import settings
from pydantic import ValidationError
from pydantic_core import to_json

from apps.core import globs
from apps.tools.lanes import Slot
from apps.tools.sdk import GatewayToolMark, mark_of
from apps.tools.tool import CallFailed

EXAMPLES: Final = "apps.tools.examples"
_TRY_AGAIN_AFTER: Final = 30.0  # seconds after which a module that could not be imported is tried again

log = structlog.get_logger(__name__)


class FunctionUnusable(Exception):
    """The message says why, and what to do. For operators."""


@dataclass(frozen=True, slots=True)
class Function:
    """`parameters` is the JSON schema of its arguments, with what its docstring says as the description; `name` is what
    it would be called as a tool."""

    name: str
    call: Callable[..., Any]
    parameters: Mapping[str, Any]
    bind: Callable[[Mapping[str, Any]], tuple[list[Any], dict[str, Any]]] = field(repr=False)  # raises ValidationError


# --- finding them ----------------------------------------------------------------------------------------------------

_found: dict[str, Function] = {}
_failed: dict[str, tuple[float, str]] = {}
_imports: dict[str, "Future[ModuleType]"] = {}
_lock = threading.Lock()


def allowed_modules() -> list[str]:
    """Globs over module names."""
    return settings.GATEWAY_TOOL_MODULES or [EXAMPLES]


def find(path: str, *, again: bool = False) -> Function:
    """The function at a dotted path. Raises FunctionUnusable.

    The first time it imports the module, and blocks for up to GATEWAY_AGENT_IMPORT_TIMEOUT seconds. `again` tries anew
    what failed a moment ago.
    """
    _refuse_others(path)  # also when it was found before: settings are the operator's last word
    if found := _found.get(path):
        return found
    failed_at, reason = _failed.get(path, (0.0, ""))
    if reason and not again and monotonic() - failed_at < _TRY_AGAIN_AFTER:
        raise FunctionUnusable(reason)
    try:
        found = _found[path] = _read(path)
    except FunctionUnusable as error:
        _failed[path] = monotonic(), str(error)
        raise
    _failed.pop(path, None)
    return found


def _refuse_others(path: str) -> None:
    module, _, name = path.rpartition(".")
    if not module or not name.isidentifier():
        raise FunctionUnusable(f"'{path}' is no dotted path of a function, such as my_tools.forecast.")
    if not globs.matches(module, allowed_modules()):
        raise FunctionUnusable(
            f"The module {module} is not among those whose functions may be tools: {', '.join(allowed_modules())}. "
            "Add it to GATEWAY_TOOL_MODULES and restart the gateway."
        )


def _read(path: str) -> Function:
    module_name, _, name = path.rpartition(".")
    module = _module(module_name)
    if not hasattr(module, name):
        raise FunctionUnusable(f"The module {module_name} has no {name}.")
    function, mark = _behind(getattr(module, name))
    if not inspect.isfunction(function):
        raise FunctionUnusable(f"{path} is no function but {_a(type(function).__name__)}.")
    home = inspect.unwrap(function).__module__
    if home != module_name and not globs.matches(home, allowed_modules()):
        raise FunctionUnusable(
            f"{path} comes from {home}, which is not in GATEWAY_TOOL_MODULES. Wrap it in a function."
        )
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise FunctionUnusable(f"{path} yields. A tool returns its answer as a whole.")
    return _with_schema(path, function, mark)


def _behind(value: Any) -> tuple[Any, GatewayToolMark]:
    """The function behind `@function_tool`, and what it is called by `@gateway_tool`, or described as by either."""
    from agents import FunctionTool

    mark = mark_of(value) or GatewayToolMark()
    if isinstance(value, FunctionTool):
        mark = GatewayToolMark(mark.name, mark.description or value.description)
        return getattr(value, "__wrapped__", value), mark
    return value, mark


def _with_schema(path: str, function: Callable[..., Any], mark: GatewayToolMark) -> Function:
    from agents.function_schema import function_schema

    try:
        schema = function_schema(function, strict_json_schema=False)
    except Exception as error:  # pydantic and the SDK have many for annotations that are no JSON
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        raise FunctionUnusable(f"{path} cannot be called with JSON: {reason}.") from error
    if schema.takes_context:
        raise FunctionUnusable(
            f"{path} wants the SDK's context, which a tool of the gateway does not have. Leave that parameter out."
        )

    def bind(arguments: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        return schema.to_call_args(schema.params_pydantic_model.model_validate(dict(arguments)))

    description = mark.description or schema.description or ""
    about = {"description": description} if description else {}
    return Function(mark.name or path.rpartition(".")[2], function, {**schema.params_json_schema, **about}, bind)


def _a(noun: str) -> str:
    return f"{'an' if noun[:1].lower() in 'aeiou' else 'a'} {noun}"


def _module(name: str) -> ModuleType:
    with _lock:
        importing = _imports.get(name)
        if importing is None or (importing.done() and importing.exception() is not None):
            importing = _imports[name] = Future()
            work = partial(copy_context().run, _import, name, importing)
            threading.Thread(target=work, name=f"import-{name}", daemon=True).start()
    seconds = settings.GATEWAY_AGENT_IMPORT_TIMEOUT
    try:
        return importing.result(timeout=seconds)
    except TimeoutError as error:
        if importing.done():  # the module's own
            raise _not_imported(name, error) from error
        raise FunctionUnusable(
            f"The module {name} was not imported within {seconds:g} s. What takes so long belongs into a function."
        ) from error
    except BaseException as error:  # sys.exit() at import must not end the gateway
        if isinstance(error, KeyboardInterrupt) and not importing.done():
            raise
        raise _not_imported(name, error) from error


def _import(name: str, into: "Future[ModuleType]") -> None:
    try:
        into.set_result(importlib.import_module(name))
    except BaseException as error:
        into.set_exception(error)
        log.warning("tool_module_not_imported", module=name, exc_info=not isinstance(error, ModuleNotFoundError))


def _not_imported(name: str, error: BaseException) -> FunctionUnusable:
    if isinstance(error, ModuleNotFoundError) and error.name and f"{name}.".startswith(f"{error.name}."):
        where = "Install it, or put it beside manage.py, where Python finds it."
        return FunctionUnusable(f"There is no module {error.name}. {where}")
    reason = str(error).strip().partition("\n")[0].rstrip(".")
    return FunctionUnusable(
        f"The module {name} cannot be imported: {type(error).__name__}{f': {reason}' if reason else ''}. "
        "The gateway's log has the traceback."
    )


# --- calling them ----------------------------------------------------------------------------------------------------


async def call(path: str, arguments: Mapping[str, Any], slot: Slot) -> str:
    """What it returned, as text. Raises CallFailed. `slot` is held for as long as the function runs in its thread."""
    function = await _found_or_told(path)
    try:
        args, kwargs = function.bind(arguments)
    except ValidationError as error:
        raise _unfit(error) from error
    try:
        return _as_text(await _result(function.call, args, kwargs, slot))
    except CallFailed:
        raise
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task and task.cancelling():
            raise
        raise _crashed(path, error) from error  # the function's own
    except BaseException as error:  # a KeyboardInterrupt would end the gateway
        raise _crashed(path, error) from error


async def _found_or_told(path: str) -> Function:
    try:
        return find(path) if path in _found else await asyncio.to_thread(find, path)
    except FunctionUnusable as error:
        log.error("tool_function_unusable", function=path, reason=str(error))
        raise CallFailed("its function cannot be used now. Go on without it.", outcome="misconfigured") from error


def _unfit(error: ValidationError) -> CallFailed:
    first = error.errors(include_url=False, include_context=False)[0]
    place = ".".join(map(str, first["loc"]))
    return CallFailed(
        f"its arguments do not fit{f' at {place}' if place else ''}: {first['msg']}. Call it again with arguments that "
        "fit its schema.",
        outcome="invalid_arguments",
    )


def _crashed(path: str, error: BaseException) -> CallFailed:
    log.error("tool_function_failed", function=path, exc_info=error)
    return CallFailed("its function failed unexpectedly. Go on without it.", outcome="crashed", may_retry=True)


async def _result(function: Callable[..., Any], args: list[Any], kwargs: dict[str, Any], slot: Slot) -> Any:
    """Raises what the function raised, whatever that is."""
    called = partial(function, *args, **kwargs)
    if inspect.iscoroutinefunction(function):
        return await _on_loop(called, slot)
    result = await _in_thread(called, slot)
    return await _on_loop(lambda: result, slot) if inspect.isawaitable(result) else result


async def _on_loop(function: Callable[[], Awaitable[Any]], slot: Slot) -> Any:
    """In a task of its own: one that catches its cancellation and goes on holds its slot, and no run."""
    work = _Work(function)
    task = asyncio.create_task(work.run_on_loop())
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        task.cancel()
        slot.leave_after(task)
        raise
    return work.told()


async def _in_thread(function: Callable[[], Any], slot: Slot) -> Any:
    """A thread cannot be stopped: after a cancellation the slot is held until it ends."""
    work = _Work(function)
    thread = asyncio.get_running_loop().run_in_executor(None, partial(copy_context().run, work.run))
    try:
        await asyncio.shield(thread)
    except asyncio.CancelledError:
        work.is_wanted = False
        slot.leave_after(thread)
        raise
    return work.told()


class _Work:
    """What runs there keeps its exception for itself: a StopIteration in a future would never arrive, and a
    KeyboardInterrupt in a task ends the event loop."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function
        self.is_wanted = True
        self._result: Any = None
        self._error: BaseException | None = None

    def run(self) -> None:
        if not self.is_wanted:  # it waited for a thread for too long
            return
        try:
            self._result = self._function()
        except BaseException as error:  # noqa: BLE001  # raised where it is waited for
            self._error = error

    async def run_on_loop(self) -> None:
        try:
            self._result = await self._function()
        except BaseException as error:  # noqa: BLE001  # as above
            self._error = error

    def told(self) -> Any:
        if self._error:
            raise self._error
        return self._result


def _as_text(value: Any) -> str:
    if value is None:
        return "Done."
    if isinstance(value, str):
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        raise CallFailed("it returned bytes, which are no text. Go on without it.", outcome="misconfigured")
    return to_json(value, fallback=str).decode()
