"""Listed by /v1/models beside the agent that is measured, as in an installation that has a few."""

from agents import Agent

agent = Agent(name="Other", instructions="Answer the question.")
