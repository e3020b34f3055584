"""What the model is told, and the shape of what it answers."""

import json

import pytest

from tests.acceptance.conftest import Alike, AskAgent, Fails


@pytest.mark.parametrize(
    ("variable", "instructions"),
    [
        ("text", "Plain text."),
        ("nothing", ""),
        ("function", "Function speaks with Ada."),
        ("coroutine", "Coroutine speaks with Ada, visit 1."),
        ("method", "Be kind to Ada. Later."),
        ("callable_object", "Be kind to Ada."),
        ("partial", "Speak French with Ada."),
        ("lambda_", "Hello Ada from Lambda."),
    ],
)
def test_instructions_of_every_kind_reach_the_model(alike: Alike, variable: str, instructions: str) -> None:
    _, calls = alike("Instructions", "Who are you?", variable=variable, context="User")

    assert [call.system for call in calls] == [instructions]


@pytest.mark.parametrize(
    ("variable", "keys"),
    [
        ("model", ["name", "day", "kind", "participants", "place"]),
        ("data_class", ["response"]),
        ("texts", ["response"]),
        ("models", ["response"]),
        ("typed_dict", ["title", "priority"]),
        ("integer", ["response"]),
        ("not_strict", ["scores"]),
        ("custom", ["joke"]),
    ],
)
def test_structured_answer_is_the_json_of_the_model(alike: Alike, variable: str, keys: list[str]) -> None:
    told, calls = alike("OutputTypes", "A high party in Oslo on 2026-05-17", variable=variable)

    assert list(json.loads(told.content)) == keys
    assert calls[0].body["response_format"]["type"] == "json_schema"


def test_answer_of_type_text_is_text(alike: Alike) -> None:
    _, calls = alike("OutputTypes", "Hello", variable="plain")

    assert "response_format" not in calls[0].body


@pytest.mark.parametrize("variable", ["model", "data_class", "texts", "custom"])
def test_answer_that_does_not_fit_its_type_is_an_error(fails: Fails, variable: str) -> None:
    fails("OutputTypes", "[[say={}]]", variable=variable, raised="ModelBehaviorError", code="invalid_model_output")


def test_structured_answer_that_is_refused_is_a_refusal(ask_agent: AskAgent) -> None:
    told, _ = ask_agent("default/outputtypes.model", "[[refuse=I cannot help with that.]]")

    assert (told.content, told.refusal, told.finish_reason) == ("", "I cannot help with that.", "stop")


def test_structured_answer_may_follow_a_tool(alike: Alike) -> None:
    asked = '[[tool=measure]] [[args={"city": "Oslo"}]] Oslo'

    told, calls = alike("OutputWithTools", asked, variable="forecaster", alone=True)

    assert list(json.loads(told.content)) == ["city", "degrees"]
    assert [call.body["response_format"]["json_schema"]["name"] for call in calls] == ["final_output"] * 2


def test_structured_answer_is_of_the_agent_that_answers(alike: Alike) -> None:
    told, _ = alike("OutputWithTools", "Umbrella advice, please", variable="forecaster", alone=True)

    assert list(json.loads(told.content)) == ["advice"]
