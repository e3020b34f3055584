import json
import os
import subprocess
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.management import call_command

from apps.catalog import registry
from tests.catalog.conftest import DiscoveryFolder
from tests.harness import forked


def manage(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A process of its own, on a data folder that was never migrated."""
    environment = {**os.environ, "GATEWAY_DATA_DIR": str(tmp_path / "data")}
    command = [str(settings.ROOT / "manage.py"), *arguments]
    return forked.run(command, folder=tmp_path, environment=environment, timeout=100)


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


@pytest.mark.django_db
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


@pytest.mark.django_db
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


# --- check_agent: what it needs, and a chat --------------------------------------------------------------------------


@pytest.mark.django_db
def test_check_agent_names_what_is_not_there_yet(folder: DiscoveryFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEATHER_PORT", "1")
    monkeypatch.delenv("WEATHER_TOKEN", raising=False)
    path = folder.write(
        "Weather",
        """
        import os
        from agents import Agent, OpenAIChatCompletionsModel
        from openai import AsyncOpenAI
        port = os.environ["WEATHER_PORT"]
        own = OpenAIChatCompletionsModel("own-model", AsyncOpenAI())
        agent = Agent(name="x", model=own, handoffs=[Agent(name="y", model="gpt-4.1"), Agent(name="z")])
        """,
        later="import os\ndef late():\n    return os.environ['WEATHER_TOKEN'], os.getenv('WEATHER_CITY')",
        broken="def f(:",
    )
    (path / "requirements.txt").write_text("no-such-package>=1\npydantic\ndjango>=99  # too new\n")
    _, output = check(path)
    _, json_output = check(path, json=True)

    assert json.loads(json_output)["needs"] == {
        "packages": ["no-such-package>=1", "django>=99"],
        "environment": ["WEATHER_CITY", "WEATHER_TOKEN"],
    }
    assert "  packages that are not installed here: no-such-package>=1, django>=99\n" in output
    assert "  environment variables that are not set here: WEATHER_CITY, WEATHER_TOKEN\n" in output
    assert [line.strip() for line in output.splitlines() if "(model: " in line] == [
        "x (model: own-model, its own object)",
        "y (model: gpt-4.1)",
        "z (model: the gateway's default)",
    ]


@pytest.mark.django_db
def test_check_agent_runs_main_to_find_the_agent_when_it_is_told_to(folder: DiscoveryFolder) -> None:
    path = folder.write(
        "Weather",
        "from agents import Agent, Runner\ndef main():\n    Runner.run_sync(Agent(name='inside'), input())",
    )

    assert [one["code"] for one in json.loads(check(path, json=True)[1])["problems"]] == ["no_export"]
    status, output = check(path, json=True, dry_run=True)
    report = json.loads(output)
    assert (status, [(one["export"], one["graph"][0]["name"]) for one in report["agents"]]) == (
        0,
        [("dry_run", "inside")],
    )


def test_check_agent_chats_without_a_database_and_leaves_no_trace(tmp_path: Path, folder: DiscoveryFolder) -> None:
    path = folder.write(
        "Weather",
        """
        from agents import Agent, function_tool
        print("a line of the module")
        @function_tool
        def get_weather(city: str) -> str:
            print("a line of the tool")
            return f"Rain in {city}."
        agent = Agent(name="W", instructions="Answer.", tools=[get_weather])
        """,
    )
    spoken = manage(tmp_path, "check_agent", str(path), "--chat", "What is the weather in Oslo?")
    silent = manage(tmp_path, "check_agent", str(path), "--chat", "What is the weather in Oslo?", "--json")

    assert (spoken.returncode, silent.returncode) == (0, 0), spoken.stderr + silent.stderr
    assert "Rain in Oslo." in spoken.stdout
    assert json.loads(silent.stdout)["answer"] in spoken.stdout
    for done in (spoken, silent):
        assert "a line of" not in done.stdout
        printed = [line for line in done.stderr.splitlines() if line.startswith("a line of")]
        assert printed == ["a line of the module", "a line of the tool"]
    assert [one.name for one in (tmp_path / "data").iterdir()] == ["secret_key"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def say(c, a):\n    1 / 0\nagent = Agent(name='W', instructions=say)", "did not answer: "),
        (
            "@function_tool(needs_approval=True)\ndef launch() -> str: ''\nagent = Agent(name='W', tools=[launch])",
            "did not answer: it wants a person's approval for a tool, for which only a gateway can wait.",
        ),
    ],
)
def test_check_agent_says_in_a_sentence_why_there_is_no_answer(
    tmp_path: Path, folder: DiscoveryFolder, text: str, said: str
) -> None:
    path = folder.write("Weather", f"from agents import Agent, function_tool\n{text}")
    done = manage(tmp_path, "check_agent", str(path), "--chat", "Please launch", "--json")

    assert (done.returncode, done.stdout) == (1, "")
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("CommandError: ")]
    assert line.startswith(f"CommandError: default/weather {said}")


def test_check_agent_that_does_not_load_has_nobody_to_chat_with(tmp_path: Path, folder: DiscoveryFolder) -> None:
    path = folder.write("Weather", "1 / 0")
    done = manage(tmp_path, "check_agent", str(path), "--chat", "hello", "--json")

    assert done.returncode == 1
    assert "answer" not in json.loads(done.stdout)


def test_discover_agents_tells_what_the_catalog_tells(
    catalog: DiscoveryFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    catalog.write("Broken", "print('a line')\n1 / 0")
    catalog.write("Several", "from agents import Agent\na = Agent(name='a')\nb = Agent(name='b')")
    (catalog.path / "NoFile").mkdir()
    (catalog.path / "NoFile" / "other.py").touch()
    output = StringIO()
    call_command("discover_agents", json=True, stdout=output)

    told = [(row["id"], *problem.values()) for row in json.loads(output.getvalue()) for problem in row["problems"]]
    assert sorted(told) == sorted(
        (id, one.code, one.severity, one.reason, one.remedy, one.file, one.line) for id, one in registry.problems()
    )
    assert {row[1] for row in told} == {"import_error", "several_agents", "no_agent_file"}
    assert capsys.readouterr().out == ""
