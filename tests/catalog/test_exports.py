"""Every shape of a module that agents-sdk.md section 14 lists, and what it is published as."""

from collections.abc import Callable
from pathlib import Path

import pytest

from apps.catalog import answering
from apps.catalog.loader import Loaded

Load = Callable[..., Loaded]

HEAD = "from __future__ import annotations\nimport asyncio\nfrom agents import *\nfrom pydantic import BaseModel\n"
# `import *` brings no private names; what the SDK exports is no agent of the module.
TWO = "a = Agent(name='a')\nb = Agent(name='b')\n"
GUARD = """
check = Agent(name='check')
@input_guardrail
async def guard(c, a, i):
  await Runner.run(check, i)
"""
EXPERT_TOOL = """
expert = Agent(name='expert')
@function_tool
async def ask(q: str) -> str:
  await Runner.run(expert, q)
"""
PART_AND_WHOLE = """
def part() -> Agent:
  return Agent(name='p')
def whole() -> Agent:
  return Agent(name='w', handoffs=[part()])
"""
INPUT = "class WorkflowInput(BaseModel):\n  input_as_text: str\n"


def shape(loaded: Loaded) -> list[tuple[str, str, str, list[str]]]:
    return [
        (one.suffix, one.export.kind, one.export.variable, [agent.name for agent in one.export.agents])
        for one in loaded.published
    ]


@pytest.mark.parametrize(
    ("text", "kind", "variable", "agents"),
    [
        ("only = Agent(name='x')", "agent", "only", ["x"]),
        (TWO + "agent = b", "agent", "agent", ["b"]),
        (TWO + "root_agent = a", "agent", "root_agent", ["a"]),
        (TWO + "agent = a\n__gateway__ = 'b'", "agent", "b", ["b"]),
        (TWO + "agent = a\n__gateway__ = b", "agent", "__gateway__", ["b"]),
        ("def build():\n  return Agent(name='x')\n__gateway__ = 'build'", "factory", "build", ["x"]),
        (TWO + "async def run_workflow(text: str):\n  pass", "workflow", "run_workflow", ["a", "b"]),
        (TWO + "async def run_workflow(text):\n  pass", "workflow", "run_workflow", ["a", "b"]),
        (TWO + INPUT + "async def go(x: WorkflowInput):\n  pass", "workflow", "go", ["a", "b"]),
        ("agent = Agent(name='x')\n" + INPUT + "async def run_workflow(x: WorkflowInput):\n  pass",
         "workflow", "run_workflow", ["x"]),
        ("agent = Agent(name='x')\nasync def run_workflow(text: str):\n  pass", "agent", "agent", ["x"]),
        (TWO + "top = Agent(name='top', handoffs=[a, handoff(b)])", "agent", "top", ["top", "a", "b"]),
        (TWO + "top = Agent(name='top', tools=[a.as_tool('a', 'a'), b.as_tool('b', 'b')])",
         "agent", "top", ["top", "a", "b"]),
        (TWO + "a.handoffs.append(b)\nb.handoffs.append(a)\nasync def main():\n  await Runner.run(b, 'hi')",
         "agent", "b", ["b", "a"]),
        (TWO + "def main():\n  current = b\n  Runner.run_sync(starting_agent=current, input='')", "agent", "b", ["b"]),
        (TWO + "def ask():\n  Runner.run_sync(b, '')\nif __name__ == '__main__':\n  ask()", "agent", "b", ["b"]),
        (TWO + "alias = a\na.handoffs.append(b)", "agent", "a", ["a", "b"]),
        ("def build() -> Agent:\n  return Agent(name='x')", "factory", "build", ["x"]),
        ("def build() -> Agent[int]:\n  return Agent(name='x')", "factory", "build", ["x"]),
        ("async def build() -> 'Agent':\n  return await asyncio.sleep(0, Agent(name='x'))", "factory", "build", ["x"]),
        ("def create_agent():\n  return Agent(name='x')", "factory", "create_agent", ["x"]),
        (PART_AND_WHOLE, "factory", "whole", ["w", "p"]),
        ("class Own(Agent):\n  pass\nmine = Own(name='own')", "agent", "mine", ["own"]),
        (GUARD + "desk = Agent(name='desk', input_guardrails=[guard])", "agent", "desk", ["desk"]),
        (EXPERT_TOOL + "desk = Agent(name='desk', tools=[ask])", "agent", "desk", ["desk"]),
    ],
)  # fmt: skip
def test_one_export(load: Load, text: str, kind: str, variable: str, agents: list[str]) -> None:
    loaded = load(HEAD + text)

    assert loaded.problems == ()
    assert shape(loaded) == [("", kind, variable, agents)]


def test_agent_defined_here_wins_over_imported_ones(load: Load) -> None:
    loaded = load("from agents import Agent\nfrom parts import a, b\ndesk = Agent(name='desk')", parts=HEAD + TWO)
    assert shape(loaded) == [("", "agent", "desk", ["desk"])]


def test_imported_agent_is_published_when_there_is_no_other(load: Load) -> None:
    assert shape(load("from parts import a", parts=HEAD + TWO)) == [("", "agent", "a", ["a"])]


def test_several_unrelated_agents_are_published_each_with_a_warning(load: Load) -> None:
    loaded = load(HEAD + TWO)

    assert shape(loaded) == [("a", "agent", "a", ["a"]), ("b", "agent", "b", ["b"])]
    assert [(one.code, one.severity) for one in loaded.problems] == [("several_agents", "warning")]


@pytest.mark.parametrize(
    ("text", "code", "reason"),
    [
        ("x = 1", "no_export", "exports no Agent"),
        ("def main():\n  Agent(name='x')", "no_export", "inside a function"),
        (GUARD, "no_export", "(check)"),
        ("__gateway__ = 'nothing'", "no_export", "'nothing'"),
        ("from agents.realtime import RealtimeAgent\nagent = RealtimeAgent(name='x')", "not_a_chat_agent", "Realtime"),
        ("class FastAPI: pass\napp = FastAPI()", "not_a_chat_agent", "a FastAPI application"),
        ("class ChatKitServer: pass\nclass Desk(ChatKitServer): pass", "not_a_chat_agent", "ChatKitServer"),
        ("def build() -> Agent:\n  1 / 0", "factory_failed", "ZeroDivisionError"),
    ],
)  # fmt: skip
def test_nothing_to_publish_is_explained(load: Load, text: str, code: str, reason: str) -> None:
    loaded = load(HEAD + text)

    (problem,) = loaded.problems
    assert (problem.code, problem.severity) == (code, "error")
    assert reason in problem.reason
    assert loaded.package is None


@pytest.mark.parametrize(
    ("text", "need"),
    [
        ("agent = Agent(name='x', tools=[WebSearchTool()])", "WebSearchTool of the agent x"),
        ("y = Agent(name='y', tools=[WebSearchTool()])\nagent = Agent(name='x', handoffs=[y])", "Tool of the agent y"),
        ("agent = Agent(name='x', prompt={'id': 'p'})", "prompt= of the agent x"),
        ("from agents.sandbox import SandboxAgent\nagent = SandboxAgent(name='x')", "the Filesystem capability"),
    ],
)  # fmt: skip
def test_agents_that_need_the_responses_api_load_and_say_what_for(load: Load, text: str, need: str) -> None:
    (published,) = load(HEAD + text).published

    problem = answering.responses_needed(published.nodes, Path("agent.py"))
    assert problem is not None
    assert (problem.code, problem.severity) == ("needs_responses", "error")
    assert need in problem.reason


def test_own_chat_model_may_not_use_hosted_tools(load: Load) -> None:
    own = "OpenAIChatCompletionsModel('m', AsyncOpenAI())"
    loaded = load(
        HEAD + f"from openai import AsyncOpenAI\nagent = Agent(name='x', model={own}, tools=[WebSearchTool()])"
    )

    assert loaded.package is None
    assert [one.code for one in loaded.published[0].problems] == ["own_model", "needs_responses"]


def test_own_responses_model_may_use_hosted_tools(load: Load) -> None:
    own = "OpenAIResponsesModel('m', openai_client=AsyncOpenAI())"
    loaded = load(
        HEAD + f"from openai import AsyncOpenAI\nagent = Agent(name='x', model={own}, tools=[WebSearchTool()])"
    )
    assert [one.code for one in loaded.published[0].problems] == ["own_model"]
    assert answering.responses_needed(loaded.published[0].nodes, Path("agent.py")) is None


CONTEXT = "class Desk(BaseModel):\n  visits: int = 0\n"


@pytest.mark.parametrize(
    "text",
    [
        "agent = Agent[Desk](name='x')",
        "@function_tool\ndef look(c: RunContextWrapper[Desk]) -> str:\n  ''\nagent = Agent(name='x', tools=[look])",
        "def say(c: RunContextWrapper[Desk | None], agent):\n  ''\nagent = Agent(name='x', instructions=say)",
        "@input_guardrail\ndef g(c: RunContextWrapper[Desk], a, i): 0\nagent = Agent(name='x', input_guardrails=[g])",
        "inner = Agent[Desk](name='y')\nagent = Agent(name='x', handoffs=[inner])",
    ],
)  # fmt: skip
def test_run_context_that_builds_without_arguments_is_found(load: Load, text: str) -> None:
    (published,) = load(HEAD + CONTEXT + text).published

    assert published.problems == ()
    assert published.export.context_type is not None
    assert published.export.context_type().visits == 0


def test_run_context_that_needs_arguments_is_a_warning(load: Load) -> None:
    (published,) = load(HEAD + "class Desk(BaseModel):\n  visits: int\nagent = Agent[Desk](name='x')").published

    assert published.export.context_type is None
    assert [(one.code, one.severity) for one in published.problems] == [("needs_context", "warning")]


def test_workflow_names_its_input_class(load: Load) -> None:
    (published,) = load(HEAD + INPUT + "async def run_workflow(workflow_input: WorkflowInput):\n  pass").published

    assert published.export.workflow_input is not None
    assert published.export.workflow_input(input_as_text="hi").input_as_text == "hi"
    assert published.export.agent is None


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("def new_cook():\n  return Agent(name='cook')", ["cook"]),
        ("def new_cook(kitchen='small'):\n  cook: Agent = Agent(name='cook')\n  return cook", ["cook"]),
        ("async def cooks(n=1):\n  if n:\n    return Agent(name='cook')\n  a = Agent(name='b')\n  return a", ["cook"]),
        ("def new_cook(kitchen):\n  return Agent(name='cook')", []),
        ("def new_cook():\n  return Agent(name='cook')\n  return None", []),
        ("def new_cook():\n  return Agent(name='cook').clone()", []),
        ("def new_cook():\n  def inner():\n    return Agent(name='cook')\n  inner()", []),
        ("async def run():\n  a = Agent(name='x')\n  await Runner.run(a, '')\n  return a", []),
        ("def main():\n  return Agent(name='cook')", []),
    ],
)
def test_factory_without_annotation_shows_what_it_returns(
    load: Callable[..., Loaded], text: str, found: list[str]
) -> None:
    loaded = load(f"from agents import Agent, Runner\n{text}")

    assert [one.nodes[0].name for one in loaded.published] == found
