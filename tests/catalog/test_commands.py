import json
import os
import subprocess
import sys
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.management import call_command

from tests.catalog.conftest import DiscoveryFolder


def manage(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A process of its own, on a data folder that was never migrated."""
    environment = {**os.environ, "GATEWAY_DATA_DIR": str(tmp_path / "data")}
    return subprocess.run(
        [sys.executable, settings.ROOT / "manage.py", *arguments],
        capture_output=True, text=True, env=environment, check=False, cwd=tmp_path, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def check(path: Path | str, **options: Any) -> tuple[int, str]:
    output, status = StringIO(), 0
    try:
        call_command("check_agent", str(path), stdout=output, **options)
    except SystemExit as leaving:
        status = int(leaving.code or 0)
    return status, output.getvalue()


def test_check_agent_needs_no_database_and_shows_the_graph(tmp_path: Path) -> None:
    done = manage(tmp_path, "check_agent", str(settings.ROOT / "agents" / "Concierge"), "--json")

    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["ok"], report["id"], report["problems"]) == (True, "default/concierge", [])
    (agent,) = report["agents"]
    assert (agent["id"], agent["export"], agent["variable"]) == ("default/concierge", "agent", "agent")
    assert [one["name"] for one in agent["graph"]] == ["Concierge", "Reservations", "Restaurant", "Translator"]
    assert agent["graph"][0]["handoffs"] == ["Reservations", "Restaurant"]
    assert agent["graph"][0]["tools"] == ["translate"]
    assert agent["graph"][0]["model"] == "gpt-4.1"


def test_check_agent_of_a_broken_folder_says_where_and_how(tmp_path: Path, folder: DiscoveryFolder) -> None:
    path = folder.write("Weather", "from agents import Agent\nimport no_such_package_here\n")
    done = manage(tmp_path, "check_agent", str(path))

    assert done.returncode == 1
    assert f"missing_dependency at {path / 'agent.py'}:2" in done.stdout
    assert "Remedy: Run `pip install no-such-package-here`" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_check_agent_takes_the_file_and_relative_paths(
    folder: DiscoveryFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder.write_agent("labs/Weather", "W")
    monkeypatch.chdir(path.parent)

    for argument in (path, path / "agent.py", "Weather", "./Weather/", "../labs/Weather"):
        status, output = check(argument)
        assert (status, output.splitlines()[0]) == (0, f"labs/weather: loads ({path})")


@pytest.mark.parametrize("name", ["Absent", "Empty", "file.txt"])
def test_check_agent_of_what_is_no_agent(folder: DiscoveryFolder, name: str) -> None:
    (folder.path / "Empty").mkdir()
    (folder.path / "file.txt").touch()
    status, output = check(folder.path / name, json=True)

    report = json.loads(output)
    assert status == 1
    assert [one["code"] for one in report["problems"]] == ["no_agent_file"]
    assert str(folder.path / name) in report["problems"][0]["reason"]
    assert report["problems"][0]["remedy"]


def test_check_agent_lists_refused_agents(folder: DiscoveryFolder) -> None:
    path = folder.write("W", "from agents import *\nagent = Agent(name='x', tools=[WebSearchTool()])")
    status, output = check(path, json=True)

    assert status == 1
    assert [one["code"] for one in json.loads(output)["problems"]] == ["needs_responses"]


def test_discover_and_list_tell_the_same(catalog: DiscoveryFolder) -> None:
    catalog.write_agent("Weather", "W")
    catalog.write("Broken", "1 / 0")
    discovered, listed, table = StringIO(), StringIO(), StringIO()
    call_command("discover_agents", json=True, stdout=discovered)
    call_command("list_agents", json=True, stdout=listed)
    call_command("list_agents", stdout=table)

    found = json.loads(discovered.getvalue())
    assert [(one["id"], one["state"]) for one in found] == [("default/broken", "broken"), ("default/weather", "live")]
    assert [one["problems"] for one in json.loads(listed.getvalue())] == [one["problems"] for one in found]
    assert table.getvalue().splitlines()[0].split() == ["id", "name", "state", "enabled", "export", "problem"]
    assert f"import_error {catalog.path / 'Broken' / 'agent.py'}:1" in table.getvalue()


def test_discover_agents_of_an_empty_folder_says_what_to_do(catalog: DiscoveryFolder) -> None:
    output = StringIO()
    call_command("discover_agents", stdout=output)
    assert output.getvalue() == "No agents. Put one into a discovery folder: agents/<Name>/agent.py.\n"
