"""Agent Builder's "Code" exports as people have them, loaded as they are."""

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from apps.catalog.loader import Loaded
from apps.catalog.options import LoadOptions

Load = Callable[..., Loaded]

HEAD = """\
from agents import Agent, ModelSettings, TResponseInputItem, Runner, RunConfig, trace
from openai.types.shared.reasoning import Reasoning
from pydantic import BaseModel
"""
CLASSIFIER = """
class ClassifySchema(BaseModel):
  category: str

classify = Agent(
  name="Classify",
  instructions="Classify the question.",
  model="gpt-4.1-nano",
  output_type=ClassifySchema,
  model_settings=ModelSettings(temperature=0, store=True)
)
"""
DESK = """
desk = Agent(
  name="Desk",
  instructions="Help the guest.",
  model="gpt-5-mini",
  model_settings=ModelSettings(store=True, reasoning=Reasoning(effort="low", summary="auto"))
)
"""
INPUT = """
class WorkflowInput(BaseModel):
  input_as_text: str
"""
WITH_TRACE = """
async def run_workflow(workflow_input: WorkflowInput):
  with trace("Hotel"):
    workflow = workflow_input.model_dump()
    conversation_history: list[TResponseInputItem] = [
      {"role": "user", "content": [{"type": "input_text", "text": workflow["input_as_text"]}]}
    ]
    desk_result_temp = await Runner.run(
      desk,
      input=[*conversation_history],
      run_config=RunConfig(trace_metadata={"__trace_source__": "agent-builder", "workflow_id": "wf_1"})
    )
    conversation_history.extend([item.to_input_item() for item in desk_result_temp.new_items])
    RETURN
"""
BRANCHES = """
def approval_request(message: str):
  # TODO: Implement
  return True

async def run_workflow(workflow_input: WorkflowInput):
  state = {"tries": 0}
  classify_result_temp = await Runner.run(classify, input=workflow_input.input_as_text)
  while state["tries"] < 2:
    if classify_result_temp.final_output.category == "desk" and approval_request("Go on?"):
      desk_result_temp = await Runner.run(desk, input=workflow_input.input_as_text)
      return {"output_text": desk_result_temp.final_output_as(str)}
    else:
      state["tries"] += 1
  return classify_result_temp.final_output
"""
CONTEXTS = """
class DeskContext:
  def __init__(self, workflow_input_as_text: str):
    self.workflow_input_as_text = workflow_input_as_text

def desk_instructions(run_context: RunContextWrapper[DeskContext], _agent: Agent[DeskContext]):
  return f"Help. {run_context.context.workflow_input_as_text}"

desk = Agent(name="Desk", instructions=desk_instructions, model="gpt-5-mini")

async def run_workflow(workflow_input: WorkflowInput):
  await Runner.run(desk, input="x", context=DeskContext(workflow_input_as_text="x"))
"""

VARIANTS = {
    "output_text": HEAD + DESK + INPUT + WITH_TRACE.replace("RETURN", 'return {"output_text": "x"}'),
    "no return": HEAD + DESK + INPUT + WITH_TRACE.replace("RETURN", 'desk_result = {"output_text": "x"}'),
    "no trace, branches": HEAD + CLASSIFIER + DESK + INPUT + BRANCHES,
    "contexts": "from agents import RunContextWrapper\n" + HEAD + INPUT + CONTEXTS,
    "client at import": (
        "from openai import AsyncOpenAI\n" + HEAD + "client = AsyncOpenAI()\n" + DESK + INPUT
        + WITH_TRACE.replace("RETURN", "pass")
    ),
    "tool stub": (
        "from agents import function_tool\n" + HEAD + "@function_tool\ndef look_up(city: str):\n  pass\n"
        + DESK.replace("desk = Agent(", "desk = Agent(\n  tools=[look_up],") + INPUT + WITH_TRACE
    ).replace("RETURN", "pass"),
    "main code called beside it": (
        HEAD + DESK + INPUT + WITH_TRACE.replace("RETURN", "pass")
        + 'if __name__ == "__main__":\n  import asyncio\n  asyncio.run(run_workflow(WorkflowInput(input_as_text="")))\n'
    ),
}  # fmt: skip


@pytest.mark.parametrize("text", VARIANTS.values(), ids=VARIANTS)
def test_export_is_a_workflow(load: Load, text: str) -> None:
    loaded = load(text)

    assert loaded.problems == ()
    (published,) = loaded.published
    assert (published.export.kind, published.export.variable) == ("workflow", "run_workflow")
    assert published.export.workflow_input is not None
    assert published.export.workflow_input(input_as_text="hi").input_as_text == "hi"
    assert published.problems == ()
    assert "Desk" in [node.name for node in published.nodes]


def test_workflow_that_is_run_at_import_serves_all_the_same(load: Load) -> None:
    text = HEAD + "import asyncio\n" + DESK + INPUT + WITH_TRACE.replace("RETURN", "pass")
    loaded = load(text + 'asyncio.run(run_workflow(WorkflowInput(input_as_text="x")))\n')

    assert [one.export.kind for one in loaded.published] == ["workflow"]
    assert [one.code for one in loaded.problems] == ["stopped_at_import"]


@pytest.mark.parametrize(
    ("annotation", "python"), [("integer", "int"), ("string", "str"), ("number", "float"), ("boolean", "bool")]
)
def test_type_of_json_schema_is_named_with_pythons(load: Load, annotation: str, python: str) -> None:
    loaded = load(
        f"from agents import Agent, function_tool\n@function_tool\ndef book(guests: {annotation}):\n  pass\n{DESK}"
    )

    (problem,) = loaded.problems
    assert (problem.code, problem.line) == ("import_error", 3)
    assert problem.reason.endswith(f"{annotation} is a type of JSON Schema, not of Python.")
    assert problem.remedy == f"Write `{python}` instead."


def test_guardrails_package_that_is_missing_is_named(load: Load) -> None:
    loaded = load("from guardrails.runtime import load_config_bundle\n" + HEAD + DESK)
    assert [one.code for one in loaded.problems] == ["missing_dependency"]
    assert "openai-guardrails" in loaded.problems[0].remedy


# --- factories for every run -----------------------------------------------------------------------------------------

PER_RUN = LoadOptions(build_per_run=True)
FACTORY = "from agents import Agent\nbuilt = []\n{}def build() -> Agent:\n  built.append(1)\n  return Agent(name='x')"


@pytest.mark.parametrize("prefix", ["", "async "])
def test_factory_is_handed_on_when_every_run_shall_have_its_agent(load: Load, prefix: str) -> None:
    (published,) = load(FACTORY.format(prefix), options=PER_RUN).published

    def build() -> Any:
        assert published.export.per_run is not None
        built = published.export.per_run()
        return asyncio.run(built) if prefix else built

    assert published.export.kind == "factory"
    one, two = build(), build()
    assert (one.name, two.name, one is two, one is published.export.agent) == ("x", "x", False, False)


@pytest.mark.parametrize(
    ("text", "options"),
    [(FACTORY.format(""), LoadOptions()), ("from agents import Agent\nagent = Agent(name='x')", PER_RUN)],
)
def test_nothing_is_built_for_every_run_otherwise(load: Load, text: str, options: LoadOptions) -> None:
    assert [one.export.per_run for one in load(text, options=options).published] == [None]


# --- what is no chat agent -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("from agents.realtime import RealtimeAgent\nagent = RealtimeAgent(name='x')", "RealtimeAgent"),
        ("from no_such_voice import VoicePipeline\npipeline = VoicePipeline(workflow=None)", "a VoicePipeline"),
        ("from fastapi import FastAPI\napp = FastAPI()", "a FastAPI application"),
        ("from mcp.server.fastmcp import FastMCP\nmcp = FastMCP('x')", "an MCP server"),
        ("from mcp.server.mcpserver import MCPServer\nmcp = MCPServer('x')", "an MCP server"),
        ("from starlette.applications import Starlette\napp = Starlette()", "a Starlette application"),
        ("import gradio as gr\nwith gr.Blocks() as demo:\n  gr.Chatbot()", "a Gradio app"),
        ("import streamlit as st\nst.title('x')", "a Streamlit app"),
        ("import chainlit as cl\n@cl.on_message\nasync def main(message):\n  pass", "a Chainlit app"),
        ("from chatkit.server import ChatKitServer\nclass Desk(ChatKitServer):\n  pass", "a ChatKitServer"),
    ],
)
def test_what_is_no_chat_agent_is_named_whether_its_packages_are_there_or_not(load: Load, text: str, what: str) -> None:
    loaded = load(text)

    (problem,) = loaded.problems
    assert (problem.code, problem.severity) == ("not_a_chat_agent", "error")
    assert what in problem.reason


def test_installed_streamlit_app_is_named_too(load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "streamlit.py").write_text("def title(text): ...")  # what of it counts here
    monkeypatch.syspath_prepend(tmp_path)
    loaded = load("import streamlit as st\nst.title('x')")
    del sys.modules["streamlit"]

    assert [one.code for one in loaded.problems] == ["not_a_chat_agent"]


@pytest.mark.parametrize("app", ["import gradio as gr\ndemo = gr.Blocks()", "import streamlit as st\nst.title('x')"])
def test_app_around_an_agent_lacks_its_package_only(load: Load, app: str) -> None:
    loaded = load(f"{app}\nfrom agents import Agent\nagent = Agent(name='x')")
    assert [one.code for one in loaded.problems] == ["missing_dependency"]
