"""What may lie beside agent.py: packages, data, requirements, a whole repository; and folders of folders."""

import pytest

from tests.acceptance.conftest import Alike, AskAgent
from tests.harness import GatewayServer


def test_package_brings_its_modules_and_its_data(alike: Alike) -> None:
    _, (call,) = alike("ShapePackageTwin", "[[no-tools]] Good morning")

    assert call.system == "librarians."


def test_package_imports_its_modules_relatively_and_absolutely(ask_agent: AskAgent) -> None:
    asked = '[[tool=get_weather]] [[tool=next_day]] [[args={"city": "Rome"}]] [[args={"day": 6}]]'

    told, calls = ask_agent("default/shapepackage", asked)

    assert calls[0].system == "You forecast the weather. Say “good day”. FORECASTERS! (11)"
    assert "The tool get_weather returned: forecasters: ROME! is sunny." in told.content
    assert "The tool next_day returned: Monday" in told.content


def test_folder_that_is_a_package_itself_imports_from_itself(ask_agent: AskAgent) -> None:
    _, (call,) = ask_agent("default/shapeinit", "Good morning")

    assert call.system == "You are Ada."


def test_package_of_its_own_called_agents_does_not_hide_the_sdk(ask_agent: AskAgent) -> None:
    _, calls = ask_agent("default/shapeownagentspackage", "[[tool=transfer_to_planner]]")

    assert [call.system for call in calls] == ["You manage.", "You plan."]


def test_missing_requirement_is_named_with_its_place_and_remedy(dropins: GatewayServer) -> None:
    found = dropins.with_key("GET", "/admin/agents/errors?severity=error").json()["data"]
    (error,) = [one for one in found if one["agent"] == "default/shaperequirements"]

    assert (error["code"], error["line"]) == ("missing_dependency", 5)
    assert error["reason"] == "The module imports a_package_that_nobody_has, which is not installed."
    assert "requirements.txt" in error["remedy"]


@pytest.mark.parametrize(
    ("model", "system"),
    [
        ("shapes_north/desk", "You serve the north."),
        ("shapes_south/desk", "You serve the south."),
        ("shapes_south/annex", "You help the south."),
    ],
)
def test_folder_of_folders_is_a_namespace(ask_agent: AskAgent, model: str, system: str) -> None:
    _, (call,) = ask_agent(model, "Good morning")

    assert call.system == system


def test_repository_serves_with_its_package_under_src(ask_agent: AskAgent) -> None:
    told, (call, _) = ask_agent("default/shaperepository", '[[tool=forecast]] [[args={"city": "Oslo"}]]')

    assert call.system == "You are the weather bureau."
    assert "The tool forecast returned: Oslo: rain, later sun." in told.content
