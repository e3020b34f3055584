import gc
import importlib
import os
import sys
import threading
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
from django.conf import LazySettings

from apps.catalog import loader
from apps.catalog.diagnostics import Problem
from apps.catalog.loader import Loaded
from tests.catalog.conftest import DiscoveryFolder

Load = Callable[..., Loaded]


def module_of(loaded: Loaded) -> dict[str, object]:
    assert loaded.package is not None, loaded.problems
    return vars(loaded.package.modules[f"{loaded.package.name}.agent"])


def the_problem(loaded: Loaded) -> Problem:
    (problem,) = loaded.problems
    assert loaded.package is None
    return problem


@pytest.mark.parametrize(
    "statement",
    [
        "import helpers; answer = helpers.answer",
        "import helpers as h; answer = h.answer",
        "from helpers import answer",
        "from helpers import *",
        "from .helpers import answer",
        "from . import helpers; answer = helpers.answer",
        "import parts.inner; answer = parts.inner.answer",
        "import parts.inner as p; answer = p.answer",
        "from parts import inner; answer = inner.answer",
        "from parts.inner import answer",
        "from .parts.inner import answer",
        "import loose.inner; answer = loose.inner.answer",
    ],
)
def test_modules_beside_agent_py_are_found(load: Load, statement: str) -> None:
    loaded = load(
        f"from agents import Agent\n{statement}\nagent = Agent(name='x')",
        helpers="answer = 42",
        parts____init__="",
        parts__inner="from helpers import answer",
        loose__inner="answer = 42",
    )

    assert module_of(loaded)["answer"] == 42
    assert {"helpers", "parts", "parts.inner", "loose", "loose.inner"} & set(sys.modules) == set()


def test_lazy_import_inside_a_function_finds_the_file_beside_it(load: Load) -> None:
    loaded = load(
        "from agents import Agent\ndef late():\n    import helpers\n    return helpers.answer\nagent = Agent(name='x')",
        helpers="answer = 42",
    )

    assert module_of(loaded)["late"]() == 42  # type: ignore[operator]


def test_equal_names_in_two_drop_ins_stay_apart(load: Load) -> None:
    text = "from agents import Agent\nfrom tools import answer\nagent = Agent(name='x')"
    one, two = load(text, "One", tools="answer = 1"), load(text, "Two", tools="answer = 2")

    assert (module_of(one)["answer"], module_of(two)["answer"]) == (1, 2)


def test_standard_library_and_sdk_are_never_shadowed(load: Load) -> None:
    loaded = load(
        "import json, openai\nfrom agents import Agent\nagent = Agent(name=json.dumps(1))",
        json="raise SystemError",
        agents="raise SystemError",
        openai="raise SystemError",
    )

    assert loaded.published[0].export.agent.name == "1"


def test_no_bytecode_is_written_and_edits_of_equal_size_are_seen(load: Load, folder: DiscoveryFolder) -> None:
    text = "from agents import Agent\nfrom tools import answer\nagent = Agent(name='x')"
    load(text, tools="answer = 1")

    assert module_of(load(text, tools="answer = 2"))["answer"] == 2
    assert list(folder.path.rglob("__pycache__")) == []


def test_side_effects_of_an_import_are_undone(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("WEATHER_PORT", raising=False)
    path, argv, stdin, here = list(sys.path), sys.argv, sys.stdin, Path.cwd()
    loaded = load(
        """
        import os, sys
        sys.path.insert(0, os.path.dirname(__file__))
        import importlib
        importlib.import_module("plain_name")
        from agents import (Agent, set_default_openai_client, set_trace_processors, set_tracing_disabled,
                            set_default_openai_api)
        from openai import AsyncOpenAI
        set_default_openai_client(AsyncOpenAI())
        set_default_openai_api("chat_completions")
        set_tracing_disabled(True)
        set_trace_processors([])
        os.environ["WEATHER_PORT"] = "1"
        os.chdir("/")
        said = sys.stdin.read()
        name = __name__
        agent = Agent(name='x')
        """,
        plain_name="",
    )

    assert (list(sys.path), sys.argv, sys.stdin, Path.cwd()) == (path, argv, stdin, here)
    assert module_of(loaded)["said"] == ""
    assert str(module_of(loaded)["name"]).startswith("_dropin.default__weather__g")
    assert "plain_name" not in sys.modules
    assert "OPENAI_API_KEY" not in os.environ
    assert os.environ["WEATHER_PORT"] == "1"
    shared = importlib.import_module("agents.models._openai_shared")
    assert shared.get_default_openai_client() is None
    assert shared.get_use_responses_by_default() is True


def test_tracing_never_gets_the_sdks_exporter(load: Load) -> None:
    load("from agents import Agent, set_tracing_disabled\nset_tracing_disabled(True)\nagent = Agent(name='x')")
    from agents.tracing import get_trace_provider, trace

    from apps.catalog import tracing

    provider = get_trace_provider()
    assert provider is tracing.install()
    processors = provider._multi_processor._processors  # type: ignore[attr-defined]
    assert [one for one in processors if type(one).__module__.startswith("agents.")] == []  # ours may be there already
    assert type(trace("still on")).__name__ == "TraceImpl"


def test_import_runs_in_a_thread_without_an_event_loop(load: Load) -> None:
    loaded = load(
        """
        import asyncio, threading
        from agents import Agent
        async def ready():
            return threading.current_thread().name
        where = asyncio.run(ready())
        agent = Agent(name='x')
        """
    )

    assert str(module_of(loaded)["where"]).startswith("load _dropin.default__weather__g")


@pytest.mark.parametrize(
    ("text", "code", "line", "reason"),
    [
        ("x = 1\nraise RuntimeError('broken pipe')", "import_error", 2, "RuntimeError: broken pipe"),
        ("import sys\nsys.exit(3)", "exited", 2, "exit(3)"),
        ("raise KeyboardInterrupt", "exited", 1, "KeyboardInterrupt"),
        ("def f(:\n  pass", "syntax_error", 1, "line 1, column 7"),
        ("\nimport yaml_no_such, json", "missing_dependency", 2, "yaml_no_such"),
        ("from agents import Agnet", "sdk_name_missing", 1, "Near names: Agent"),
        ("import agents.nothing", "sdk_name_missing", 1, "agents.nothing"),
        ("import os\nos.environ['WEATHER_TOKEN']", "missing_environment", 2, "WEATHER_TOKEN"),
        ("raise ValueError('WEATHER_KEY must be set')", "missing_environment", 1, "WEATHER_KEY"),
        ("input('name? ')", "runs_at_import", 1, "keyboard"),
        ("from helpers import nothing", "import_error", 1, "'helpers'"),
        ("import helpers\nhelpers.fail()", "import_error", 2, "ZeroDivisionError"),
        ("class E(Exception):\n  def __str__(self): 1 / 0\nraise E", "import_error", 3, "failed: E."),
        ("from agents import Agent\nagent = Agent(name='x')\nagent.handoffs = ['y']", "import_error", None, "'name'"),
        ("x = 1\0", "import_error", None, "null bytes"),
        ("x: integer = 1", "import_error", 1, "integer is a type of JSON Schema"),
        ("import code\ncode.mine", "import_error", 2, "finds Python's own module, not code.py of this folder"),
        ("open('helpers.py')\nopen('data.json')", "import_error", 1, "It lies in the agent's folder"),
        ("import mcp.nothing_here", "missing_dependency", 1, "has no module mcp.nothing_here"),
    ],
)
def test_failing_import_is_explained(
    load: Load, folder: DiscoveryFolder, text: str, code: str, line: int | None, reason: str
) -> None:
    before = set(sys.modules)
    problem = the_problem(load(text, helpers="x = 1\ndef fail():\n    1 / 0", code="mine = 1"))

    assert (problem.code, problem.severity) == (code, "error")
    assert reason in problem.reason
    assert "_dropin" not in problem.reason
    assert problem.remedy
    expected = ("helpers.py", 3) if "fail()" in text else ("agent.py", line)
    assert (problem.file, problem.line) == (str(folder.path / "Weather" / expected[0]), expected[1])
    assert [name for name in set(sys.modules) - before if name.startswith("_dropin.")] == []


def test_missing_dependency_of_a_folder_with_requirements_names_the_command(
    load: Load, folder: DiscoveryFolder
) -> None:
    path = folder.write("Weather", "")
    (path / "requirements.txt").write_text("no-such-package\n")

    remedy = the_problem(load("import no_such_package")).remedy
    assert remedy.startswith(f"Run `manage.py install_agent_deps {path}`;")


@pytest.mark.parametrize(("module", "package"), [("yaml", "PyYAML"), ("chatkit.agents", "openai-chatkit")])
def test_missing_dependency_names_the_package(module: str, package: str) -> None:
    from apps.catalog.diagnostics import package_of

    assert package_of(module) == package


def test_import_that_never_ends_is_left_behind_and_blocks_nothing(load: Load, settings: LazySettings) -> None:
    settings.GATEWAY_AGENT_IMPORT_TIMEOUT = 0.3
    release = threading.Event()
    sys.modules["_test_release"] = release  # type: ignore[assignment]
    try:
        problem = the_problem(load("import _test_release\n_test_release.wait(60)", "Stuck"))
        settings.GATEWAY_AGENT_IMPORT_TIMEOUT = 20
        after = load("from agents import Agent\nagent = Agent(name='x')", "Next")
    finally:
        release.set()
        del sys.modules["_test_release"]

    assert problem.code == "import_timeout"
    assert after.package is not None


def test_nothing_stays_in_sys_modules_or_memory(folder: DiscoveryFolder) -> None:
    path = folder.write(
        "Weather", "from agents import Agent\nimport tools\nagent = Agent(name='x')", tools="class Here: pass"
    )
    loaded = loader.load("default/weather", path)
    assert loaded.package
    names = set(loaded.package.modules)
    gone = [weakref.ref(module) for module in loaded.package.modules.values()]
    assert len(names) == 3

    loaded.package.release()
    assert names & set(sys.modules) == set()
    del loaded
    gc.collect()
    assert [one() for one in gone] == [None, None, None]
