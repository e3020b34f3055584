import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from tests.catalog.conftest import DiscoveryFolder
from tests.catalog.test_commands import check


def new_agent(*arguments: str, **options: Any) -> str:
    output = StringIO()
    call_command("new_agent", *arguments, stdout=output, **options)
    return output.getvalue()


@pytest.mark.parametrize(
    ("arguments", "place", "agent_id", "sdk_name"),
    [
        (["WeatherDesk"], "WeatherDesk", "default/weatherdesk", "Weather Desk"),
        (["weather-desk"], "weather-desk", "default/weather-desk", "Weather Desk"),
        (["Planner", "--namespace", "labs"], "labs/Planner", "labs/planner", "Planner"),
    ],
)
@pytest.mark.django_db
def test_new_agent_loads_at_once(
    folder: DiscoveryFolder, arguments: list[str], place: str, agent_id: str, sdk_name: str
) -> None:
    told = new_agent(*arguments)
    path = folder.path / place

    assert told.splitlines() == [
        f"{path / 'agent.py'} is the model {agent_id}.",
        f'Try it without a gateway:  manage.py check_agent {path} --chat "Roll two dice"',
        f"A running gateway lists it within two seconds; chat with it as {agent_id}.",
    ]
    status, output = check(path, json=True)
    report = json.loads(output)
    assert (status, report["id"], report["problems"]) == (0, agent_id, [])
    assert [(one["name"], one["tools"]) for one in report["agents"][0]["graph"]] == [(sdk_name, ["roll_dice"])]
    assert [one.name for one in path.iterdir()] == ["agent.py"]


def test_new_agent_elsewhere_says_that_no_gateway_looks_there(folder: DiscoveryFolder, tmp_path: Path) -> None:
    told = new_agent("Weather", path=tmp_path / "elsewhere")

    assert (tmp_path / "elsewhere" / "Weather" / "agent.py").is_file()
    assert told.splitlines()[-1] == (
        f"No gateway looks there until GATEWAY_AGENT_DISCOVERY_PATH names {tmp_path / 'elsewhere'}."
    )


@pytest.mark.parametrize(
    "name", ["", "1st", "a/b", "../x", "with space", "venv", ".hidden", "ümlaut", "a" * 101, "a.b"]
)
def test_name_that_is_no_folder_of_an_agent_is_refused(folder: DiscoveryFolder, name: str) -> None:
    for arguments in ([name], ["Weather", "--namespace", name]):
        if arguments[-1] == "":
            continue
        with pytest.raises(CommandError, match="for an agent: a letter first, then letters"):
            new_agent(*arguments)
    assert list(folder.path.iterdir()) == []


def test_nothing_is_overwritten_or_hidden(folder: DiscoveryFolder) -> None:
    folder.write_agent("Weather", "mine")
    before = (folder.path / "Weather" / "agent.py").read_text()

    for arguments, reason in (
        (["Weather"], f"{folder.path / 'Weather'} exists already."),
        (["weather"], f"{folder.path / 'Weather'} has the id default/weather already."),
        (["Inner", "--namespace", "Weather"], f"{folder.path / 'Weather'} is an agent itself"),
    ):
        with pytest.raises(CommandError) as raised:
            new_agent(*arguments)
        assert str(raised.value).startswith(reason)
    assert (folder.path / "Weather" / "agent.py").read_text() == before
    assert [one.name for one in folder.path.iterdir()] == ["Weather"]


def test_folder_that_cannot_be_written_is_named(folder: DiscoveryFolder) -> None:
    (folder.path / "file").touch()
    with pytest.raises(CommandError, match="cannot be written"):
        new_agent("Weather", path=folder.path / "file")
