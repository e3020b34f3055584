"""Modules that run: a program at import is stopped where it would run, and a dry run finds what main() would run."""

import asyncio
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from agents import Agent, Runner
from agents.run import AgentRunner, get_default_agent_runner, set_default_agent_runner
from django.conf import LazySettings
from pydantic import TypeAdapter

from apps.catalog import loader, program
from apps.catalog.loader import Loaded
from apps.catalog.options import LoadOptions
from tests.catalog.conftest import DiscoveryFolder, until

Load = Callable[..., Loaded]

DRY = LoadOptions(dry_run=True)
HEAD = "import asyncio, sys\nfrom agents import Agent, Runner\n"
MAIN = HEAD + "async def main():\n  agent = Agent(name='inside')\n  await Runner.run(agent, input('You: '))\n"


class Forbidden(AgentRunner):
    """Stands for the gateway's own runner: no load may ever come to it."""

    def __init__(self) -> None:
        self.ran: list[str] = []

    async def run(self, starting_agent: Any, input: Any, **kwargs: Any) -> Any:
        self.ran.append(starting_agent.name)
        return starting_agent

    def run_sync(self, starting_agent: Any, input: Any, **kwargs: Any) -> Any:
        self.ran.append(starting_agent.name)
        return starting_agent


@pytest.fixture(autouse=True)
def runner() -> Iterator[Forbidden]:
    before, forbidden = get_default_agent_runner(), Forbidden()
    set_default_agent_runner(forbidden)
    yield forbidden
    set_default_agent_runner(before)


def found(loaded: Loaded) -> list[tuple[str, str, str]]:
    return [(one.export.kind, one.export.variable, one.nodes[0].name) for one in loaded.published]


# --- at import -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("end", "what"),
    [
        ("result = Runner.run_sync(agent, 'hi')\nprint(result.final_output)", "runs its agent"),
        ("asyncio.run(Runner.run(agent, 'hi'))", "runs its agent"),
        ("async def main():\n  Runner.run_streamed(agent, 'hi')\nasyncio.run(main())", "runs its agent"),
        ("try:\n  Runner.run_sync(agent, '')\nexcept Exception:\n  raise SystemError", "runs its agent"),
        ("while True:\n  text = input('You: ')", "asks for keyboard input"),
        ("sys.exit()", "calls exit()"),
        ("sys.exit(0)", "calls exit()"),
    ],
)
def test_program_at_import_is_stopped_and_what_was_defined_before_serves(
    load: Load, runner: Forbidden, end: str, what: str
) -> None:
    loaded = load(f"{HEAD}agent = Agent(name='defined')\n{end}\nlater = Agent(name='later')")

    assert found(loaded) == [("agent", "agent", "defined")]
    (problem,) = loaded.problems
    assert (problem.code, problem.severity) == ("stopped_at_import", "warning")
    assert problem.reason.startswith(f"The module {what} while it is imported")
    assert '`if __name__ == "__main__":`' in problem.remedy
    assert problem.line is not None
    assert problem.line >= 4
    assert runner.ran == []


@pytest.mark.parametrize(
    ("text", "code", "reason"),
    [
        ("Runner.run_sync(Agent(name='x'), 'hi')", "runs_at_import", "runs an agent"),
        ("input()", "runs_at_import", "keyboard"),
        ("agent = Agent(name='x')\nsys.exit('No key')", "exited", "exit('No key')"),
        ("agent = Agent(name='x')\nsys.exit(2)", "exited", "exit(2)"),
        ("import helpers\nagent = Agent(name='x')", "runs_at_import", "runs an agent"),
    ],
)
def test_program_at_import_with_nothing_to_serve_is_explained(
    load: Load, runner: Forbidden, text: str, code: str, reason: str
) -> None:
    loaded = load(HEAD + text, helpers=f"{HEAD}Runner.run_sync(Agent(name='y'), '')")

    assert loaded.package is None
    (problem,) = loaded.problems
    assert (problem.code, problem.severity) == (code, "error")
    assert reason in problem.reason
    assert '`if __name__ == "__main__":`' in problem.remedy
    assert runner.ran == []


def test_helper_that_is_stopped_leaves_nothing_in_sys_modules(load: Load) -> None:
    load(HEAD + "import helpers", helpers="import sys\nsys.exit()")
    assert [name for name in sys.modules if name.endswith(".helpers") and name.startswith("_dropin")] == []


# --- dry runs --------------------------------------------------------------------------------------------------------

PROGRAMS = {
    "async": MAIN,
    "block": MAIN + "if __name__ == '__main__':\n  asyncio.run(main())",
    "sync": HEAD + "def main():\n  print('Starting')\n  Runner.run_sync(Agent(name='inside'), 'hi')",
    "streamed": HEAD + "async def main():\n  Runner.run_streamed(starting_agent=Agent(name='inside'), input='hi')",
    "block alone": HEAD + "if __name__ == '__main__':\n  Runner.run_sync(Agent(name='inside'), 'hi')",
    "other name": (
        HEAD + "async def demo(name, turns):\n  await Runner.run(Agent(name=name), '')\n"
        "if __name__ == '__main__':\n  asyncio.run(demo('inside', 3))"
    ),
    "arguments": (
        "import argparse\n" + HEAD + "def main(model):\n  Runner.run_sync(Agent(name='inside', model=model), '')\n"
        "if __name__ == '__main__':\n  parser = argparse.ArgumentParser()\n  parser.add_argument('--model')\n"
        "  main(parser.parse_args().model)"
    ),
    "manager": (
        HEAD + "class Manager:\n  def __init__(self):\n    self.agent = Agent(name='inside')\n"
        "  async def go(self, text):\n    return await Runner.run(self.agent, text)\n"
        "async def main():\n  await Manager().go(input())"
    ),
    "choice": (
        HEAD + "def main():\n  names = ['outside', 'inside']\n  name = names[int(input('Which? '))]\n"
        "  Runner.run_sync(Agent(name=name), '')"
    ),
    "gathered": (
        HEAD + "async def main():\n  a = Agent(name='inside')\n"
        "  await asyncio.gather(Runner.run(a, '1'), Runner.run(a, '2'))"
    ),
    "bare except": (
        HEAD + "def main():\n  try:\n    Runner.run_sync(Agent(name='inside'), '')\n  except:\n    raise ValueError"
    ),
    "in a worker thread": (
        HEAD + "async def main():\n  await asyncio.to_thread(Runner.run_sync, Agent(name='inside'), '')"
    ),
}  # fmt: skip


@pytest.mark.parametrize("text", PROGRAMS.values(), ids=PROGRAMS)
def test_dry_run_finds_what_the_program_runs_first(
    load: Load, runner: Forbidden, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    loaded = load(text, options=DRY)

    assert found(loaded) == [("dry_run", "main", "inside")]
    assert loaded.problems == ()
    assert runner.ran == []
    assert capsys.readouterr().out == ""


def test_dry_run_is_the_default_for_all_when_the_environment_says_so(load: Load, settings: LazySettings) -> None:
    settings.GATEWAY_AGENT_DRY_RUN = True
    assert found(load(MAIN)) == [("dry_run", "main", "inside")]


def test_without_the_option_nothing_runs_and_the_remedy_names_it(load: Load) -> None:
    loaded = load(HEAD + "async def main():\n  Agent(name='x')\n  raise SystemError")

    (problem,) = loaded.problems
    assert problem.code == "no_export"
    assert "“run main() to find it”" in problem.remedy


def test_module_with_an_export_is_not_run(load: Load) -> None:
    loaded = load(HEAD + "agent = Agent(name='there')\ndef main():\n  raise SystemError", options=DRY)
    assert found(loaded) == [("agent", "agent", "there")]


def test_what_main_opened_is_closed_again(load: Load) -> None:
    text = """
        import asyncio, contextlib
        from agents import Agent, Runner
        closed = []

        @contextlib.asynccontextmanager
        async def server():
            task = asyncio.create_task(asyncio.sleep(60))
            try:
                yield "server"
            finally:
                task.cancel()
                closed.append(asyncio.get_running_loop())

        async def main():
            async with server() as one:
                await Runner.run(Agent(name="inside", instructions=one), "hi")
        """
    loaded = load(text, options=DRY)

    assert loaded.package is not None
    (loop,) = vars(loaded.package.modules[f"{loaded.package.name}.agent"])["closed"]
    assert loop.is_closed()


@pytest.mark.parametrize(
    ("body", "code", "reason"),
    [
        ("Agent(name='x')", "dry_run_failed", "ended without running one"),
        ("1 / 0\n  Agent(name='x')", "dry_run_failed", "ZeroDivisionError"),
        ("sys.exit(2)\n  Agent(name='x')", "dry_run_failed", "called exit(2)"),
        ("Agent(name='x')\n  Agent(name='y')\n  1 / 0", "dry_run_failed", "ZeroDivisionError"),
        ("import no_such_package\n  Agent(name='x')", "missing_dependency", "no_such_package"),
        ("import os\n  Agent(name=os.environ['NO_SUCH_NAME'])", "missing_environment", "NO_SUCH_NAME"),
        ("while True:\n    input()\n  Agent(name='x')", "dry_run_failed", "ended without running one"),
    ],
)
def test_dry_run_that_finds_nothing_is_explained(load: Load, body: str, code: str, reason: str) -> None:
    loaded = load(HEAD + f"def main():\n  {body}", options=DRY)

    assert loaded.package is None
    (problem,) = loaded.problems
    assert (problem.code, problem.severity) == (code, "error")
    assert reason in problem.reason


@pytest.mark.parametrize(
    ("end", "code", "reason"),
    [
        ("open('no-such-file')", "dry_run_failed", "No such file"),
        ("sys.exit(2)", "dry_run_failed", "called exit(2)"),
        ("import no_such_package", "missing_dependency", "no_such_package"),
    ],
)
def test_agent_that_was_built_before_the_program_failed_serves(load: Load, end: str, code: str, reason: str) -> None:
    text = "def main():\n  below = Agent(name='below')\n  Agent(name='inside', handoffs=[below])\n  "
    loaded = load(HEAD + text + end, options=DRY)

    assert found(loaded) == [("dry_run", "main", "inside")]
    (problem,) = loaded.problems
    assert (problem.code, problem.severity, problem.line) == (code, "warning", 6)
    assert reason in problem.reason


@pytest.mark.parametrize("library", ["input", "sys.stdin.readline", "builtins.input"])
def test_keyboard_is_answered_however_it_is_asked(load: Load, library: str) -> None:
    text = f"import builtins\n{HEAD}def main():\n  Runner.run_sync(Agent(name={library}().strip()), '')"
    assert found(load(text, options=DRY)) == [("dry_run", "main", "1")]


CONTEXT = (
    HEAD
    + """
from dataclasses import dataclass, field
from agents import RunContextWrapper
@dataclass
class Guest:
    name: str
    visits: list[str] = field(default_factory=list)
def instructions(context: RunContextWrapper[Guest], agent):
    return context.context.name
"""
)
EXPORTED = CONTEXT + "concierge = Agent(name='inside', instructions=instructions)\n"


def contexts(loaded: Loaded) -> tuple[Any, Any]:
    make = loaded.published[0].export.context_type
    assert make is not None
    return make(), make()


@pytest.mark.parametrize(
    "text",
    [
        EXPORTED + "def main():\n  Runner.run_sync(concierge, '', context=Guest('Ada'))",
        CONTEXT
        + "def main():\n  Runner.run_sync(Agent(name='inside', instructions=instructions), '', context=Guest('Ada'))",
        CONTEXT + "def main():\n  Runner.run_sync(Agent(name='inside'), '', context=Guest('Ada'))",
    ],
)
def test_each_run_gets_a_copy_of_the_programs_context(load: Load, text: str) -> None:
    loaded = load(text, options=DRY)

    one, other = contexts(loaded)
    assert (one.name, other.name) == ("Ada", "Ada")
    assert one.visits is not other.visits
    assert (loaded.problems, loaded.published[0].problems) == ((), ())
    restored = TypeAdapter(loaded.published[0].export.context_type).validate_python({"name": "Bob", "visits": ["one"]})
    assert (type(restored), restored.visits) == (type(one), ["one"])


@pytest.mark.parametrize(
    ("main", "problems"),
    [
        ("Runner.run_sync(concierge, '')", []),
        ("Runner.run_sync(concierge, '', context='Ada')", []),
        ("import threading\n  Runner.run_sync(concierge, '', context=Guest(threading.Lock()))", []),
        ("1 / 0", [("dry_run_failed", "warning")]),
    ],
)
def test_program_that_gives_no_such_context_changes_nothing(
    load: Load, main: str, problems: list[tuple[str, str]]
) -> None:
    loaded = load(f"{EXPORTED}def main():\n  {main}", options=DRY)

    assert found(loaded) == [("agent", "concierge", "inside")]
    assert [one.code for one in loaded.published[0].problems] == ["needs_context"]
    assert [(one.code, one.severity) for one in loaded.problems] == problems


def test_program_that_takes_too_long_to_give_a_context_changes_nothing(load: Load, settings: LazySettings) -> None:
    settings.GATEWAY_AGENT_IMPORT_TIMEOUT = 0.5
    loaded = load(f"import threading\n{EXPORTED}def main():\n  threading.Event().wait()", options=DRY)

    assert found(loaded) == [("agent", "concierge", "inside")]
    assert [(one.code, one.severity) for one in loaded.problems] == [("dry_run_failed", "warning")]


def test_program_that_never_ends_is_left_behind_and_never_comes_to_a_model(
    load: Load, runner: Forbidden, settings: LazySettings
) -> None:
    settings.GATEWAY_AGENT_IMPORT_TIMEOUT = 0.5
    release, ended = threading.Event(), threading.Event()
    sys.modules.update(_test_release=release, _test_ended=ended)  # type: ignore[call-overload]
    text = """
        import _test_release, _test_ended
        from agents import Agent, Runner
        def main():
            agent = Agent(name="late")
            _test_release.wait(60)
            try:
                Runner.run_sync(agent, "hi")
            finally:
                _test_ended.set()
        """
    try:
        loaded = load(text, options=DRY)
    finally:
        release.set()
        del sys.modules["_test_release"], sys.modules["_test_ended"]

    assert [one.code for one in loaded.problems] == ["dry_run_failed"]
    assert "within 0.5 seconds" in loaded.problems[0].reason
    assert ended.wait(20)
    assert runner.ran == []


def test_program_that_catches_everything_does_not_spin(load: Load, settings: LazySettings) -> None:
    settings.GATEWAY_AGENT_IMPORT_TIMEOUT = 1
    text = (
        "def main():\n  while True:\n    try:\n      Runner.run_sync(Agent(name='inside'), '')\n    except:\n      pass"
    )
    loaded = load(HEAD + text, options=DRY)

    assert [one.code for one in loaded.problems] == ["dry_run_failed"]
    assert program.current() is None


def test_runs_of_other_threads_go_on_during_a_dry_run(
    folder: DiscoveryFolder, runner: Forbidden, settings: LazySettings
) -> None:
    release, waiting = threading.Event(), threading.Event()
    sys.modules.update(_test_release=release, _test_waiting=waiting)  # type: ignore[call-overload]
    path = folder.write(
        "Weather",
        """
        import _test_release, _test_waiting
        from agents import Agent, Runner
        def main():
            _test_waiting.set()
            _test_release.wait(20)
            Runner.run_sync(Agent(name="inside"), "hi")
        """,
    )
    results: list[Loaded] = []
    thread = threading.Thread(target=lambda: results.append(loader.load("default/weather", path, DRY)))
    thread.start()
    try:
        assert waiting.wait(20)
        assert asyncio.run(Runner.run(Agent(name="other"), "hi")).name == "other"  # type: ignore[attr-defined]
        assert Runner.run_sync(Agent(name="another"), "hi").name == "another"  # type: ignore[attr-defined]
    finally:
        release.set()
        thread.join()
        del sys.modules["_test_release"], sys.modules["_test_waiting"]

    until(lambda: bool(results))
    assert found(results[0]) == [("dry_run", "main", "inside")]
    assert runner.ran == ["other", "another"]
    assert results[0].package is not None
    results[0].package.release()
