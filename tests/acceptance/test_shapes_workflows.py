"""Agent Builder's exports, in all the variants that it writes: two-space indentation, `run_workflow` at the end."""

import pytest

from tests.acceptance.conftest import AskAgent, Runs
from tests.harness import GatewayServer


@pytest.mark.parametrize(
    ("name", "asked", "content"),
    [
        ("ShapeBuilder", "[[say=By train, then by boat.]]", "By train, then by boat."),
        ("ShapeBuilderNoReturn", "[[say=Water it.]]", "Water it."),
        ("ShapeBuilderBranches", "I complain. [[say=Sorry.]]", "Sorry."),
        ("ShapeBuilderBranches", "I thank you. [[say=Welcome.]]", "Welcome."),
        ("ShapeBuilderBranches", "A parcel.", '{"is_complaint": false, "topic": "demo"}'),
        ("ShapeBuilderWhile", "[[say=Better.]]", "Better.\n\nBetter.\n\nBetter."),
        ("ShapeBuilderStructured", "A card", '{"name":"demo","age":1.0,"place":{"city":"demo","country":"demo"}}'),
        ("ShapeBuilderApproval", "[[say=Stay with us.]]", 'Stay with us.\n\n{"message": "done"}'),
        ("ShapeBuilderCardLast", "[[say=Three of hearts.]]", "Three of hearts."),
    ],
)  # fmt: skip
def test_export_answers_once_and_hides_the_json_between_its_nodes(
    ask_agent: AskAgent, under_runner: Runs, name: str, asked: str, content: str
) -> None:
    told, calls = ask_agent(f"default/{name.lower()}", asked)
    _, expected = under_runner(name, asked, variable="run_workflow")

    assert (told.content, told.finish_reason) == (content, "stop")
    assert [(call.system, call.tool_names) for call in calls] == [(one.system, one.tool_names) for one in expected]


def test_settings_of_a_node_reach_the_model(ask_agent: AskAgent) -> None:
    _, (call,) = ask_agent("default/shapebuilder", "To Rome")

    assert call.system == "You plan journeys."
    assert call.body["reasoning_effort"] == "low"


def test_only_the_last_user_text_reaches_the_workflow(ask_agent: AskAgent) -> None:
    conversation = [
        {"role": "user", "content": "To Rome"},
        {"role": "assistant", "content": "By train."},
        {"role": "user", "content": [{"type": "text", "text": "And back?"}]},
    ]

    _, (call,) = ask_agent("default/shapebuilder", conversation)

    assert [one["content"] for one in call.body["messages"][1:]] == [[{"type": "text", "text": "And back?"}]]


def test_each_node_gets_the_context_that_the_workflow_made_for_it(ask_agent: AskAgent) -> None:
    _, calls = ask_agent("default/shapebuilderwhile", "Ode to joy")

    assert [call.system for call in calls] == [
        "Polish the text.\n\nThis is round 1.",
        "Polish the text.\n\nThis is round 2.",
        "Frame what began as: Ode to joy",
    ]


def test_tool_without_a_body_is_a_tool(ask_agent: AskAgent) -> None:
    told, _ = ask_agent("default/shapebuilderapproval", "[[tool=get_retention_offers]]")

    assert "The tool get_retention_offers returned: None" in told.content


@pytest.mark.parametrize(
    ("name", "code", "line", "named"),
    [
        ("ShapeBuilderGuardrails", "missing_dependency", 3, "openai-guardrails"),
        ("ShapeBuilderAnnotation", "import_error", 6, "name 'integer' is not defined"),
    ],
)
def test_export_that_cannot_load_says_why(dropins: GatewayServer, name: str, code: str, line: int, named: str) -> None:
    found = dropins.with_key("GET", "/admin/agents/errors?severity=error").json()["data"]
    (error,) = [one for one in found if one["agent"] == f"default/{name.lower()}"]

    assert (error["code"], error["line"]) == (code, line)
    assert named in error["reason"] + error["remedy"]
