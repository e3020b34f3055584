"""Which turn of its conversation each model call was. It stands in no step: the order of the steps tells it."""

from collections.abc import Iterable
from typing import Any

from apps.execution.models import RunStep, StepKind


def turns(steps: Iterable[RunStep]) -> dict[int, int]:
    """Of each model call, by its number in the run; from 1. `steps` are in their order.

    A handoff goes on with the count, as the SDK's `max_turns` does; an agent that is used as a tool, and each run that
    a workflow starts, has its own.
    """
    found: dict[int, int] = {}
    counts: dict[Any, int] = {}
    conversations: dict[int | None, Any] = {}  # of agents, by their number
    handed_over: dict[tuple[int | None, str], Any] = {}  # conversations, by where they go on: in which step, with whom
    parents: dict[int | None, int | None] = {}
    for step in steps:
        parents[step.number] = step.parent
        if step.kind == StepKind.AGENT:
            conversations[step.number] = handed_over.pop((step.parent, step.name), step.number)
        elif step.kind == StepKind.HANDOFF and step.parent in conversations:
            handed_over[parents.get(step.parent), step.name] = conversations[step.parent]
        elif step.kind == StepKind.MODEL:
            conversation = conversations.get(step.parent, ("without an agent", step.parent))
            counts[conversation] = found[step.number] = counts.get(conversation, 0) + 1
    return found
