"""Workflows: functions that call Runner themselves, in every way that people write."""

import pytest

from tests.acceptance.conftest import Alike, AskAgent


@pytest.mark.parametrize(
    ("asked", "runs"), [("A frog story", 2), ("A frog story of good quality", 3)], ids=["stopped", "complete"]
)
def test_chain_of_runs_stops_where_its_code_says(alike: Alike, asked: str, runs: int) -> None:
    _, calls = alike("WorkflowChain", asked, variable="run_workflow", told_before=True)

    assert len(calls) == runs


def test_structured_node_of_a_chain_is_not_shown(ask_agent: AskAgent) -> None:
    told, _ = ask_agent("default/workflowchain", "A frog story of good quality")

    assert "good_quality" not in told.content


def test_runs_may_go_in_parallel(alike: Alike) -> None:
    _, calls = alike("WorkflowParallel", "[[say=Hola]]", variable="run_workflow", told_before=True, ordered=False)

    assert len(calls) == 4


def test_parallel_runs_are_not_mixed_up_in_the_answer(ask_agent: AskAgent) -> None:
    told, _ = ask_agent("default/workflowparallel", "[[words=30]]")

    words = " ".join(f"word{number}" for number in range(1, 31))
    assert told.content.split("\n\n") == [words] * 4


def test_judge_sends_the_writer_back(alike: Alike) -> None:
    told, calls = alike("WorkflowJudge", "A story, fail it first", variable="run_workflow", told_before=True)

    assert "Final after 2 rounds: " in told.content
    assert len(calls) == 4


def test_workflow_may_read_its_own_stream(alike: Alike) -> None:
    told, _ = alike("WorkflowStreams", "Tell me jokes [[tool=how_many_jokes]]", variable="run_workflow")

    assert told.content.startswith(
        "Agent updated: Joker\nTool was called: how_many_jokes\nTool output: 3\nMessage output: "
    )
    assert told.content.endswith("\nTrue deltas, True, 2 turns, 2 responses")


def test_run_config_of_a_workflow_is_kept(alike: Alike) -> None:
    _, calls = alike("WorkflowRunConfig", "Hello", variable="run_workflow", told_before=True)

    assert calls[0].system == "Answer. Be short."
    assert [message["content"] for message in calls[0].body["messages"][1:]] == ["Hello"]
    assert [call.upstream for call in calls[:5]] == ["first", "first", "second", "second", "first"]


def test_workflow_handles_the_errors_of_its_runs(alike: Alike) -> None:
    told, _ = alike("WorkflowErrors", "Go", variable="run_workflow", told_before=True)

    assert "handled: MaxTurnsExceeded" in told.content
    assert told.content.endswith("caught: BadRequestError 400")


def test_workflow_may_bring_its_own_model_provider(ask_agent: AskAgent) -> None:
    told, calls = ask_agent("default/providers", "Hello")

    assert told.content.endswith("I am house-model. I am nobody.")
    assert calls == []
