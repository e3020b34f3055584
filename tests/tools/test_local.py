"""Tools that are Python functions."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from apps.tools import local
from apps.tools.invoke import invoke
from apps.tools.local import FunctionUnusable, find
from apps.tools.tool import ToolOutput
from tests.tools.conftest import local_tool

Write = Callable[[str, str], str]


async def output(path: str, arguments: Any = None, **fields: Any) -> ToolOutput:
    return await invoke(local_tool(path, **fields), json.dumps(arguments or {}))


def reason(path: str, **how: Any) -> str:
    with pytest.raises(FunctionUnusable) as refused:
        find(path, **how)
    return str(refused.value)


SIGNATURES = '''
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Literal, Optional

from agents import function_tool
from pydantic import BaseModel, Field


class Unit(Enum):
    C = "c"
    F = "f"


class Place(BaseModel):
    city: str
    zip: Annotated[str, Field(pattern="^[0-9]+$")] = "0"


@dataclass
class Report:
    place: Place
    unit: Unit
    days: int


def forecast(place: Place, unit: Unit = Unit.C, days: Annotated[int, "How far ahead.", Field(ge=1)] = 3) -> Report:
    """The weather to come.

    Args:
        place: Where.
        unit: Of the temperature.
    """
    return Report(place, unit, days)


def numpy_style(a: int, b: Optional[str] = None) -> dict:
    """Numpy's way.

    Parameters
    ----------
    a : int
        The first.
    b : str, optional
        The second.
    """
    return {"a": a, "b": b}


async def later(kind: Literal["x", "y"], *rest: int, **more: str) -> list:
    return [kind, rest, more]


@function_tool(description_override="Decorated.")
def decorated(a: int = 1) -> str:
    """Not this."""
    return f"decorated {a}"


def untyped(a, b=2):
    return a
'''


@pytest.fixture
def signatures(write_module: Write) -> str:
    return write_module("lent_signatures", SIGNATURES)


def test_schema_is_read_from_the_signature(signatures: str) -> None:
    schema = find(f"{signatures}.forecast").parameters

    assert (schema["description"], schema["required"]) == ("The weather to come.", ["place"])
    about = {name: (one.get("description"), one.get("default")) for name, one in schema["properties"].items()}
    assert about == {
        "place": ("Where.", None),
        "unit": ("Of the temperature.", "c"),
        "days": ("How far ahead.", 3),
    }
    assert schema["$defs"]["Unit"]["enum"] == ["c", "f"]


@pytest.mark.parametrize(
    ("function", "required", "described"),
    [
        ("numpy_style", ["a"], {"a": "The first.", "b": "The second."}),
        ("later", ["kind"], {"kind": None, "rest": None, "more": None}),
        ("decorated", None, {"a": None}),
        ("untyped", ["a"], {"a": None, "b": None}),
    ],
)
def test_defaults_stay_optional(signatures: str, function: str, required: Any, described: dict[str, Any]) -> None:
    schema = find(f"{signatures}.{function}").parameters

    assert schema.get("required") == required
    assert {name: one.get("description") for name, one in schema["properties"].items()} == described


def test_description_of_the_decorator_counts(signatures: str) -> None:
    assert find(f"{signatures}.decorated").parameters["description"] == "Decorated."


@pytest.mark.parametrize(
    ("function", "arguments", "text"),
    [
        (
            "forecast",
            {"place": {"city": "Oslo"}, "days": 2},
            '{"place":{"city":"Oslo","zip":"0"},"unit":"c","days":2}',
        ),
        ("numpy_style", {"a": 1}, '{"a":1,"b":null}'),
        ("later", {"kind": "x", "rest": [1, 2], "more": {"z": "w"}}, '["x",[1,2],{"z":"w"}]'),
        ("decorated", {}, "decorated 1"),
        ("untyped", {"a": None}, "Done."),
    ],
)
async def test_function_is_called_with_what_it_wants(
    signatures: str, function: str, arguments: dict[str, Any], text: str
) -> None:
    assert await output(f"{signatures}.{function}", arguments) == ToolOutput(text)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({}, "at place: Field required"),
        ({"place": {"city": "Oslo", "zip": "x"}}, "at place.zip: String should match pattern '^[0-9]+$'"),
        ({"place": {"city": "Oslo"}, "days": 0}, "at days: Input should be greater than or equal to 1"),
    ],
)
async def test_arguments_that_do_not_fit_are_told_with_their_place(
    signatures: str, arguments: dict[str, Any], told: str
) -> None:
    assert await output(f"{signatures}.forecast", arguments) == ToolOutput(
        f"The tool 'called' was not called: its arguments do not fit {told}. Call it again with arguments that fit its "
        "schema.",
        is_error=True,
    )


# --- which functions -------------------------------------------------------------------------------------------------

ODD = """
import asyncio
import os
from functools import partial, wraps

from agents import RunContextWrapper

getcwd = os.getcwd
value = 3
made = partial(print, "x")


class Tool:
    def __call__(self) -> str:
        return "x"


instance = Tool()


def wants_context(context: RunContextWrapper, a: int) -> int:
    return a


def yields():
    yield 1


async def yields_later():
    yield 1


def wants_the_impossible(a: asyncio.Lock) -> None: ...


def logged(function):
    @wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)

    return wrapper


@logged
def wrapped(a: int) -> int:
    return a
"""


@pytest.fixture
def odd(write_module: Write) -> str:
    return write_module("lent_odd", ODD)


@pytest.mark.parametrize(
    ("function", "why"),
    [
        ("nothing", "The module lent_odd has no nothing."),
        ("value", "lent_odd.value is no function but an int."),
        ("made", "lent_odd.made is no function but a partial."),
        ("Tool", "lent_odd.Tool is no function but a type."),
        ("instance", "lent_odd.instance is no function but a Tool."),
        ("getcwd", "lent_odd.getcwd is no function but a builtin_function_or_method."),
        ("wraps", "lent_odd.wraps comes from functools, which is not in GATEWAY_TOOL_MODULES. Wrap it in a function."),
        ("yields", "lent_odd.yields yields. A tool returns its answer as a whole."),
        ("yields_later", "lent_odd.yields_later yields. A tool returns its answer as a whole."),
        (
            "wants_context",
            (
                "lent_odd.wants_context wants the SDK's context, which a tool of the gateway does not have. Leave that "
                "parameter out."
            ),
        ),
    ],
)
def test_what_cannot_be_a_tool_is_said(odd: str, function: str, why: str) -> None:
    assert reason(f"{odd}.{function}") == why


def test_annotation_that_is_no_json_is_said(odd: str) -> None:
    assert reason(f"{odd}.wants_the_impossible").startswith(f"{odd}.wants_the_impossible cannot be called with JSON: ")


async def test_function_behind_a_decorator_is_taken(odd: str) -> None:
    assert await output(f"{odd}.wrapped", {"a": 3}) == ToolOutput("3")


@pytest.mark.parametrize(
    "path", ["os.system", "subprocess.run", "apps.core.secrets.decrypt", "lent.x.y", "builtins.eval"]
)
async def test_module_outside_the_setting_is_refused_before_it_is_imported(settings: Any, path: str) -> None:
    settings.GATEWAY_TOOL_MODULES = ["lent_*"]

    assert reason(path) == (
        f"The module {path.rpartition('.')[0]} is not among those whose functions may be tools: lent_*. Add it to "
        "GATEWAY_TOOL_MODULES and restart the gateway."
    )
    assert await output(path) == ToolOutput(
        "The tool 'called' failed: its function cannot be used now. Go on without it.", is_error=True
    )


async def test_module_that_is_no_longer_allowed_is_refused_at_the_call(signatures: str, settings: Any) -> None:
    path = f"{signatures}.decorated"
    before = await output(path)

    settings.GATEWAY_TOOL_MODULES = []

    assert (before.is_error, (await output(path)).is_error) == (False, True)


@pytest.mark.parametrize("path", ["", "forecast", ".", "lent_x.", "lent_x.a b", "lent_x.a()"])
def test_what_is_no_dotted_path_is_said(settings: Any, path: str) -> None:
    settings.GATEWAY_TOOL_MODULES = ["*"]

    assert reason(path) == f"'{path}' is no dotted path of a function, such as my_tools.forecast."


def test_without_the_setting_the_examples_are_tools_and_nothing_else(settings: Any) -> None:
    settings.GATEWAY_TOOL_MODULES = []

    assert find("apps.tools.examples.days_between").parameters["required"] == ["first", "second"]
    assert reason("apps.tools.local.find").startswith("The module apps.tools.local is not among those")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"first": "2026-01-01", "second": "2026-03-01"}, "59"),
        ({"first": "2026-01-01", "second": "soon"}, None),
    ],
)
async def test_example_counts_days(arguments: dict[str, Any], text: str | None) -> None:
    told = await output("apps.tools.examples.days_between", arguments)

    assert (told.text if text else None, told.is_error) == (text, text is None)


async def test_example_tells_what_to_do_about_a_wrong_time_zone() -> None:
    assert await output("apps.tools.examples.current_time", {"timezone": "Mars"}) == ToolOutput(
        "The tool 'called' failed: 'Mars' is no time zone. Name one such as Europe/Berlin.", is_error=True
    )


# --- modules that fail -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "source", "why"),
    [
        ("lent_syntax", "def x(:", "SyntaxError: invalid syntax (lent_syntax.py, line 1)"),
        ("lent_raises", "1 / 0", "ZeroDivisionError: division by zero"),
        ("lent_exits", "import sys\nsys.exit(3)", "SystemExit: 3"),
        (
            "lent_needs",
            "import not_installed_anywhere",
            "ModuleNotFoundError: No module named 'not_installed_anywhere'",
        ),
        ("lent_times_out", "raise TimeoutError('mine')", "TimeoutError: mine"),
    ],
)
def test_module_that_cannot_be_imported_says_why(write_module: Write, name: str, source: str, why: str) -> None:
    write_module(name, source)

    assert reason(f"{name}.x") == (f"The module {name} cannot be imported: {why}. The gateway's log has the traceback.")


def test_module_that_is_not_there_says_where_it_belongs(write_module: Write) -> None:
    assert reason("lent_nowhere.x") == (
        "There is no module lent_nowhere. Install it, or put it beside manage.py, where Python finds it."
    )


def test_import_that_does_not_end_is_left_alone(write_module: Write, settings: Any) -> None:
    settings.GATEWAY_AGENT_IMPORT_TIMEOUT = 0.2
    write_module("lent_slow", "import time\ntime.sleep(1.5)\ndef x(): return 1")

    first = reason("lent_slow.x")
    settings.GATEWAY_AGENT_IMPORT_TIMEOUT = 30

    assert first == ("The module lent_slow was not imported within 0.2 s. What takes so long belongs into a function.")
    assert find("lent_slow.x", again=True).call() == 1  # the same import, which went on


def test_module_that_was_mended_is_tried_again_when_asked(write_module: Write) -> None:
    name = write_module("lent_mended", "1 / 0")
    before = reason(f"{name}.x")
    write_module(name, "def x():\n    return 1")
    import importlib

    importlib.invalidate_caches()

    assert reason(f"{name}.x") == before  # not each call is an import
    assert find(f"{name}.x", again=True).call() == 1


def test_module_is_imported_once(write_module: Write) -> None:
    name = write_module("lent_once", "def x():\n    return 1")
    before = find(f"{name}.x")
    write_module(name, "def x():\n    return 2")

    assert find(f"{name}.x", again=True) is before


# --- functions that fail ---------------------------------------------------------------------------------------------

FAILING = """
import asyncio
import sys


def raises():
    raise RuntimeError("a secret of the database")


async def raises_later():
    raise RuntimeError("a secret of the database")


def stops():
    raise StopIteration


def exits():
    sys.exit(1)


async def exits_later():
    sys.exit(1)


def interrupts():
    raise KeyboardInterrupt


async def interrupts_later():
    raise KeyboardInterrupt


def closes():
    raise GeneratorExit


class Odd(BaseException):
    pass


async def is_odd():
    raise Odd


def times_out():
    raise TimeoutError("its own")


async def cancels():
    raise asyncio.CancelledError


def gives_bytes():
    return b"x"


def gives_a_coroutine():
    return asyncio.sleep(0, "awaited")


def gives_an_object():
    return {"object": object}
"""


@pytest.mark.parametrize(
    "function",
    [
        "raises", "raises_later", "stops", "exits", "exits_later", "interrupts", "interrupts_later", "closes", "is_odd",
        "times_out", "cancels",
    ],
)  # fmt: skip
async def test_exception_is_told_without_what_is_inside(write_module: Write, function: str) -> None:
    name = write_module("lent_failing", FAILING)

    assert await output(f"{name}.{function}") == ToolOutput(
        "The tool 'called' failed: its function failed unexpectedly. Go on without it.", is_error=True
    )


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (
            "gives_bytes",
            ToolOutput(
                "The tool 'called' failed: it returned bytes, which are no text. Go on without it.", is_error=True
            ),
        ),
        ("gives_a_coroutine", ToolOutput("awaited")),
        ("gives_an_object", ToolOutput('{"object":"<class \'object\'>"}')),
    ],
)
async def test_odd_results_are_texts_or_told(write_module: Write, function: str, told: ToolOutput) -> None:
    name = write_module("lent_failing", FAILING)

    assert await output(f"{name}.{function}") == told


def test_the_default_is_the_examples(settings: Any) -> None:
    settings.GATEWAY_TOOL_MODULES = []

    assert local.allowed_modules() == ["apps.tools.examples"]
