"""The agent of the benchmark: no tools, no handoffs, so that what is measured is the road and not the agent."""

from agents import Agent

agent = Agent(name="Bench", instructions="Answer the question.")
