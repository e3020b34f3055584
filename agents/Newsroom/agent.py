"""An editor's desk in the shape of an Agent Builder export: a classifier chooses who writes."""

from typing import Literal

from agents import Agent, ModelSettings, RunConfig, Runner, TResponseInputItem, trace
from pydantic import BaseModel


class DeskEditorSchema(BaseModel):
  desk: Literal["headline", "summary", "fact_check"]


desk_editor = Agent(
  name="Desk editor",
  instructions="""You are the desk editor of a newsroom. Decide who takes the request:
- headline: the user wants a headline or a title
- fact_check: the user asks whether something is true, or wants claims to be checked
- summary: everything else""",
  model="gpt-4.1-mini",
  output_type=DeskEditorSchema,
  model_settings=ModelSettings(
    temperature=0,
    store=True
  )
)


headline_writer = Agent(
  name="Headline writer",
  instructions="Write three headlines for the user's text, at most ten words each, one to a line. No clickbait.",
  model="gpt-4.1",
  model_settings=ModelSettings(
    temperature=1,
    max_tokens=512,
    store=True
  )
)


summariser = Agent(
  name="Summariser",
  instructions="Answer as a news summary: what happened, why it matters, what is open. At most 120 words.",
  model="gpt-4.1",
  model_settings=ModelSettings(
    temperature=0.4,
    max_tokens=1024,
    store=True
  )
)


fact_checker = Agent(
  name="Fact checker",
  instructions="""List the claims in the user's text. After each one say whether it is well established, disputed or
cannot be judged from general knowledge, and which source would settle it. Don't invent sources.""",
  model="gpt-4.1",
  model_settings=ModelSettings(
    temperature=0.2,
    max_tokens=2048,
    store=True
  )
)


class WorkflowInput(BaseModel):
  input_as_text: str


# Main code entrypoint
async def run_workflow(workflow_input: WorkflowInput):
  with trace("Newsroom"):
    workflow = workflow_input.model_dump()
    conversation_history: list[TResponseInputItem] = [
      {
        "role": "user",
        "content": [
          {
            "type": "input_text",
            "text": workflow["input_as_text"]
          }
        ]
      }
    ]
    desk_editor_result_temp = await Runner.run(
      desk_editor,
      input=[
        *conversation_history
      ],
      run_config=RunConfig(trace_metadata={
        "__trace_source__": "agent-builder",
        "workflow_id": "wf_newsroom"
      })
    )
    desk_editor_result = {
      "output_text": desk_editor_result_temp.final_output.model_dump_json(),
      "output_parsed": desk_editor_result_temp.final_output.model_dump()
    }
    if desk_editor_result["output_parsed"]["desk"] == "headline":
      headline_writer_result_temp = await Runner.run(
        headline_writer,
        input=[
          *conversation_history
        ],
        run_config=RunConfig(trace_metadata={
          "__trace_source__": "agent-builder",
          "workflow_id": "wf_newsroom"
        })
      )
      return {
        "output_text": headline_writer_result_temp.final_output_as(str)
      }
    elif desk_editor_result["output_parsed"]["desk"] == "fact_check":
      fact_checker_result_temp = await Runner.run(
        fact_checker,
        input=[
          *conversation_history
        ],
        run_config=RunConfig(trace_metadata={
          "__trace_source__": "agent-builder",
          "workflow_id": "wf_newsroom"
        })
      )
      return {
        "output_text": fact_checker_result_temp.final_output_as(str)
      }
    else:
      summariser_result_temp = await Runner.run(
        summariser,
        input=[
          *conversation_history
        ],
        run_config=RunConfig(trace_metadata={
          "__trace_source__": "agent-builder",
          "workflow_id": "wf_newsroom"
        })
      )
      return {
        "output_text": summariser_result_temp.final_output_as(str)
      }
