"""Packages that are not installed: an agent serves without those that only its program would use."""

from collections.abc import Callable

import pytest

from apps.catalog import program
from apps.catalog.loader import Loaded
from apps.catalog.options import LoadOptions
from apps.catalog.program_imports import modules_for_program

Load = Callable[..., Loaded]

AGENT = "from agents import Agent, Runner, function_tool\nfrom no_such_console import Console, ask\n"
EXPORT = "agent = Agent(name='x')\n"


@pytest.mark.parametrize(
    "text",
    [
        "def main():\n  Console().print(ask())\n",
        "async def main():\n  show(ask())\ndef show(text):\n  Console().print(text)\n",
        "if __name__ == '__main__':\n  ask()\n  Console()\n",
        "def chat():\n  ask()\n  Console()\nif __name__ == '__main__':\n  chat()\n",
        "def main():\n  def confirm(text):\n    return ask(text)\n  Console().print(confirm('?'))\n",
        "async def confirm(question: str) -> bool:\n  return ask(question)\nasync def main():\n  await confirm('')\n",
        "def main():\n  ask(Console)\n",
    ],
)
def test_agent_serves_without_what_only_its_program_uses(load: Load, text: str) -> None:
    loaded = load(AGENT + EXPORT + text)

    assert [one.nodes[0].name for one in loaded.published] == ["x"]
    (problem,) = loaded.problems
    assert (problem.code, problem.severity, problem.line) == ("missing_dependency", "warning", 2)
    assert "The module imports no_such_console, which is not installed." in problem.reason
    assert "the agent serves without" in problem.reason
    assert "pip install no-such-console" in problem.remedy


@pytest.mark.parametrize(
    "text",
    [
        "",
        "console = Console()\n",
        "def main(console=Console()):\n  ask()\n",
        "def main(console: Console):\n  ask()\n",
        "@function_tool\ndef look_up() -> str:\n  return ask()\n",
        "def look_up() -> str:\n  return ask()\nagent.tools.append(function_tool(look_up))\n",
        "def main():\n  tool = function_tool(lambda: ask())\n",
        "def main():\n  @function_tool\n  def look_up() -> str:\n    return ask()\n",
        "def main():\n  def look_up() -> str:\n    return ask()\n  agent.tools = [function_tool(look_up)]\n",
        "def main():\n  prepare()\ndef prepare():\n  ask()\nprepare()\n",
        "class Hooks:\n  def on_start(self):\n    ask()\ndef main():\n  Hooks()\n",
        "def create_agent():\n  ask()\ndef main():\n  create_agent()\n",
        "async def run_workflow(text: str):\n  ask()\nasync def main():\n  await run_workflow('')\n",
        "def unused():\n  ask()\n",
        "__gateway__ = 'chat'\nasync def chat(text: str):\n  ask()\nasync def main():\n  await chat('')\n",
        "try:\n  from no_such_console import ask as ask_me\nexcept ValueError:\n  pass\ndef main():\n  ask()\n",
    ],
)
def test_what_an_agent_may_need_has_to_be_there(load: Load, text: str) -> None:
    loaded = load(AGENT + EXPORT + text)

    assert loaded.package is None
    (problem,) = loaded.problems
    assert (problem.code, problem.severity) == ("missing_dependency", "error")


@pytest.mark.parametrize("text", ["from rich import *\ndef main():\n  f()", "from .x import f\ndef main():\n  f()"])
def test_imports_that_tell_too_little_are_needed(text: str) -> None:
    assert modules_for_program(text) == {}


def test_missing_package_of_an_installed_one_is_needed(load: Load) -> None:
    loaded = load(
        "from agents import Agent\nfrom helpers import ask\nagent = Agent(name='x')\ndef main():\n  ask()",
        helpers="import no_such_console\nask = no_such_console.ask",
    )
    assert [(one.code, one.severity) for one in loaded.problems] == [("missing_dependency", "error")]


def test_dry_run_goes_on_without_it(load: Load) -> None:
    text = """
        import asyncio
        from agents import Agent, Runner
        import no_such_console as nsc
        from no_such_console.prompts import ask, Console
        async def main():
            with Console(color=True).status("Working"):
                nsc.print("[bold]hello")
            name = ask("Your name?").strip() or "inside"
            await Runner.run(Agent(name=name), ask("> "))
        if __name__ == "__main__":
            asyncio.run(main())
        """
    loaded = load(text, options=LoadOptions(dry_run=True))

    assert [one.nodes[0].name for one in loaded.published] == ["inside"]
    assert {(one.code, one.severity) for one in loaded.problems} == {("missing_dependency", "warning")}


@pytest.mark.parametrize(
    "agent",
    [
        "Agent(name='x', model=nsc.Model('m'))",
        "Agent(name='x', tools=[nsc.search])",
        "Agent(name='x', tools=[nsc.search()])",
        "Agent(name='x', handoffs=[Agent(name='y', instructions=nsc.prompt)])",
    ],
)
def test_agent_of_a_dry_run_with_parts_that_are_not_there_is_refused(load: Load, agent: str) -> None:
    text = (
        f"from agents import Agent, Runner\nimport no_such_console as nsc\ndef main():\n  Runner.run_sync({agent}, '')"
    )
    loaded = load(text, options=LoadOptions(dry_run=True))

    assert loaded.package is None
    (problem,) = loaded.problems
    assert (problem.code, problem.severity) == ("missing_dependency", "error")
    assert "The module imports no_such_console" in problem.reason


def test_calling_it_later_raises_what_its_import_did(load: Load) -> None:
    loaded = load(AGENT + EXPORT + "def main():\n  ask()\n  Console()\n")

    assert loaded.package is not None
    assert program.current() is None
    with pytest.raises(ModuleNotFoundError, match="No module named 'no_such_console'"):
        loaded.package.modules[f"{loaded.package.name}.agent"].main()
