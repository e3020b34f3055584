"""Imported once, by the process that every run under Runner is forked from: each finds a first run's work done."""

import asyncio
import os

import agents
from agents import Agent, Runner, function_tool
from agents.testing import ModelStep, ScriptedModel, assistant_message

import tests.acceptance.stock  # noqa: F401  # what the forked processes run

os.environ["OPENAI_DEFAULT_MODEL"] = "demo"
agents.set_trace_processors([])  # nothing is posted


@function_tool
def nothing() -> None:
    """Nothing."""


model = ScriptedModel([ModelStep(output=[assistant_message("Warm.")])])
asyncio.run(Runner.run(Agent(name="Warm", tools=[nothing], model=model), "Hello"))
