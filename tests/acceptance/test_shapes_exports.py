"""What a module may export, and which of its agents answers."""

import openai
import pytest

from tests.acceptance.conftest import Alike, AskAgent
from tests.harness import GatewayServer
from tests.harness.asking import Ask

RUNS_BESIDE = "ShapeGuardAgent"  # its guardrail's agent is asked while the agent itself is


@pytest.mark.parametrize(
    ("name", "variable"),
    [
        ("ShapeOne", "librarian"),
        ("ShapeRoot", "reception"),
        ("ShapeMainDecides", "outliner"),
        ("ShapeCycle", "night"),
        ("ShapeMarker", "captain"),
        ("ShapeRootAgent", "root_agent"),
        ("ShapeGuardAgent", "tutor"),
        ("ShapeReexport", "lead"),
        ("ShapeSubclass", "spokesman"),
        ("ShapeInnerRuns", "assistant"),
    ],
)
def test_the_leading_agent_answers_under_the_name_of_the_folder(
    alike: Alike, dropins: GatewayServer, name: str, variable: str
) -> None:
    alike(name, "Good morning", variable=variable, alone=True, ordered=name != RUNS_BESIDE)

    assert served(dropins, name) == [f"default/{name.lower()}"]


def test_cycle_hands_over_and_back(alike: Alike) -> None:
    told, calls = alike("ShapeCycle", "[[tool=transfer_to_day]]", variable="night", alone=True)

    assert told.content
    assert [call.system for call in calls] == ["You work by night.", "You work by day."]


def test_root_reaches_the_agents_below_it(alike: Alike) -> None:
    _, calls = alike("ShapeRoot", "[[tool=transfer_to_clerk]]", variable="reception", alone=True)

    assert calls[0].tool_names == ["translate", "transfer_to_clerk"]
    assert calls[1].tool_names == ["transfer_to_archive"]


@pytest.mark.parametrize(
    ("name", "variables"), [("ShapeUnrelated", ["critic", "poet"]), ("ShapeCycleOpen", ["east", "west"])]
)
def test_unrelated_agents_are_published_each(
    alike: Alike, dropins: GatewayServer, name: str, variables: list[str]
) -> None:
    for variable in variables:
        alike(name, "Good morning", variable=variable)

    assert served(dropins, name) == [f"default/{name.lower()}.{variable}" for variable in variables]
    assert warnings_of(dropins, f"default/{name.lower()}.{variables[0]}") == ["several_agents"]


def test_folder_of_unrelated_agents_answers_under_none_of_its_own_name(client: openai.OpenAI, ask: Ask) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        ask(client, "default/shapeunrelated", "Good morning")

    assert caught.value.code == "model_not_found"


@pytest.mark.parametrize(
    ("name", "system", "tools"),
    [
        ("ShapeFactory", "You count.", ["count_words"]),
        ("ShapeFactories", "You ask the expert.", ["transfer_to_expert"]),
        ("ShapeFactoryPlain", "You cook in a small kitchen.", []),
    ],
)
def test_factory_makes_the_agent(ask_agent: AskAgent, name: str, system: str, tools: list[str]) -> None:
    told, (call,) = ask_agent(f"default/{name.lower()}", "[[no-tools]] Good morning")

    assert told.content
    assert (call.system, call.tool_names) == (system, tools)


def test_async_factory_makes_the_agent_and_each_run_gets_a_context(ask_agent: AskAgent) -> None:
    for _ in range(2):
        _, (call,) = ask_agent("default/shapefactoryasync", "Good morning")

        assert call.system == "You are Guard of the night shift, asked 1 times."


def served(dropins: GatewayServer, name: str) -> list[str]:
    """The models of this folder."""
    own = f"default/{name.lower()}"
    return [model.id for model in dropins.openai().models.list() if model.id == own or model.id.startswith(f"{own}.")]


def warnings_of(dropins: GatewayServer, agent: str) -> list[str]:
    """The codes of its warnings, as the operators' API tells them."""
    found = dropins.with_key("GET", "/admin/agents/errors?severity=warning&limit=500").json()["data"]
    return [one["code"] for one in found if one["agent"] == agent]
