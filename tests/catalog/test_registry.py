import mmap
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from structlog.testing import capture_logs

from apps.catalog import generations, registry, scan, watch
from apps.catalog.models import AgentSettings, DropIn, State
from apps.catalog.registry import Changes, Generation
from apps.core import live_config
from apps.core.errors import ModelNotFound
from tests.catalog.conftest import DiscoveryFolder, until


@pytest.fixture(autouse=True)
def no_snapshot_of_another_test() -> None:
    live_config.forget()


def generation(agent_id: str) -> Generation:
    found = registry.entries()[agent_id].generation
    assert found is not None
    return found


def agent_name(agent_id: str) -> str:
    agent = generation(agent_id).export.agent
    assert agent is not None
    return agent.name


def modules() -> set[str]:
    return {name for name in sys.modules if name.startswith("_dropin.")}


def set_agent(agent_id: str, **values: Any) -> None:
    AgentSettings.objects.update_or_create(drop_in=DropIn.objects.get(agent_id=agent_id), defaults=values)
    live_config.refresh()


# --- what is listed --------------------------------------------------------------------------------------------------


def test_entry_describes_the_agent(catalog: DiscoveryFolder) -> None:
    path = catalog.write(
        "Weather", '"""Knows the weather.\n\nMore."""\nfrom agents import Agent\nagent = Agent(name="W")'
    )
    os.utime(path / "agent.py", (1_700_000_000, 1_700_000_000))

    assert registry.refresh() == Changes(loaded=("default/weather",))
    entry = registry.entries()["default/weather"]
    assert (entry.name, entry.description, entry.created) == ("W", "Knows the weather.", 1_700_000_000)
    assert (entry.state, entry.enabled, entry.aliases, entry.problems) == (State.LIVE, True, (), ())
    assert entry.digest == generation("default/weather").digest
    assert len(entry.digest) == 64


def test_handoff_description_comes_before_the_docstring(catalog: DiscoveryFolder) -> None:
    catalog.write("W", '"""No."""\nfrom agents import Agent\nagent = Agent(name="W", handoff_description="Yes.")')
    registry.refresh()
    assert registry.entries()["default/w"].description == "Yes."


def test_several_agents_of_one_folder_share_its_modules(catalog: DiscoveryFolder) -> None:
    catalog.write("Desk", "from agents import Agent\none = Agent(name='1')\ntwo = Agent(name='2')")
    registry.refresh()

    assert list(registry.entries()) == ["default/desk.one", "default/desk.two"]
    assert generation("default/desk.one").package == generation("default/desk.two").package
    assert [one.code for one in registry.entries()["default/desk.one"].problems] == ["several_agents"]

    catalog.write("Desk", "from agents import Agent\none = Agent(name='1')")
    assert registry.refresh() == Changes(loaded=("default/desk",), gone=("default/desk.one", "default/desk.two"))
    packages = {name.split(".")[1] for name in modules()}
    of_desk = {name for name in packages if name.startswith("default__desk__")}
    assert of_desk == {generation("default/desk").package.split(".")[1]}


# --- resolve ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def two_agents(catalog: DiscoveryFolder) -> DiscoveryFolder:
    catalog.write_agent("Weather", "Storm Watch")
    catalog.write_agent("labs/Planner", "Planner")
    registry.refresh()
    return catalog


@pytest.mark.parametrize("model", ["default/weather", "DEFAULT/Weather", "weather", "Weather", "storm watch"])
def test_resolve_takes_id_folder_and_agent_name(two_agents: DiscoveryFolder, model: str) -> None:
    assert registry.resolve(model).agent_id == "default/weather"


def test_alias_resolves_and_disabled_agents_too(two_agents: DiscoveryFolder) -> None:
    set_agent("default/weather", aliases=["HelpDesk", 3], enabled=False)

    entry = registry.resolve("helpdesk")
    assert (entry.agent_id, entry.enabled, entry.aliases) == ("default/weather", False, ("HelpDesk",))


def test_resolve_of_an_unknown_model_names_near_ids(two_agents: DiscoveryFolder) -> None:
    with pytest.raises(ModelNotFound) as raised:
        registry.resolve("wether")
    assert raised.value.message == "The model 'wether' does not exist. Did you mean 'default/weather'?"
    assert raised.value.param == "model"


def test_resolve_names_only_what_the_caller_may_see(two_agents: DiscoveryFolder) -> None:
    with pytest.raises(ModelNotFound) as raised:
        registry.resolve("weather", visible=lambda agent_id: agent_id.startswith("labs/"))
    assert raised.value.message == "The model 'weather' does not exist."


def test_ambiguous_name_is_refused_unless_visibility_decides(two_agents: DiscoveryFolder) -> None:
    two_agents.write_agent("labs/Weather", "Other")
    registry.refresh()

    with pytest.raises(ModelNotFound, match="may mean 'default/weather' or 'labs/weather'"):
        registry.resolve("weather")
    assert (
        registry.resolve("weather", visible=lambda agent_id: agent_id != "labs/weather").agent_id == "default/weather"
    )


@pytest.mark.parametrize("model", ["", "x" * 1_000_000, "\udc80", "/", "default/"])
def test_odd_model_names_are_not_found(two_agents: DiscoveryFolder, model: str) -> None:
    with pytest.raises(ModelNotFound) as raised:
        registry.resolve(model)
    assert len(raised.value.message) < 500


# --- reload ----------------------------------------------------------------------------------------------------------


def test_only_what_changed_is_loaded_again(two_agents: DiscoveryFolder) -> None:
    planner = generation("labs/planner")
    two_agents.write_agent("Weather", "New")

    assert registry.refresh() == Changes(loaded=("default/weather",))
    assert agent_name("default/weather") == "New"
    assert generation("labs/planner") is planner


def test_touch_and_equal_content_do_not_reload(two_agents: DiscoveryFolder) -> None:
    before = generation("default/weather")
    os.utime(two_agents.path / "Weather" / "agent.py", (1, 1))

    assert registry.refresh() == Changes()
    assert generation("default/weather") is before


def test_edit_of_a_file_beside_agent_py_reloads(catalog: DiscoveryFolder) -> None:
    text = "from agents import Agent\nfrom names import name\nagent = Agent(name=name)"
    catalog.write("Weather", text, names="name = 'one'")
    registry.refresh()
    catalog.write("Weather", text, names="name = 'two'")
    registry.refresh()

    assert agent_name("default/weather") == "two"


def test_broken_edit_keeps_the_last_good_version(two_agents: DiscoveryFolder) -> None:
    good = generation("default/weather")
    two_agents.write("Weather", "from agents import Agent\nagent = Agent(name=)")

    assert registry.refresh() == Changes(failed=("default/weather",))
    entry = registry.entries()["default/weather"]
    assert (entry.state, entry.generation) == (State.STALE, good)
    assert [(one.code, one.line) for one in entry.problems] == [("syntax_error", 2)]

    two_agents.write_agent("Weather", "Storm Watch")
    assert registry.refresh() == Changes(loaded=("default/weather",))
    entry = registry.entries()["default/weather"]
    assert (entry.state, entry.generation, entry.problems) == (State.LIVE, good, ())


def test_failed_agent_is_tried_again_on_a_touch(catalog: DiscoveryFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WEATHER_NAME", raising=False)
    path = catalog.write(
        "Weather", "import os\nfrom agents import Agent\nagent = Agent(name=os.environ['WEATHER_NAME'])"
    )
    assert registry.refresh() == Changes(failed=("default/weather",))
    monkeypatch.setenv("WEATHER_NAME", "here now")
    os.utime(path / "agent.py", (1, 1))

    assert registry.refresh() == Changes(loaded=("default/weather",))


def test_broken_at_start_is_listed_without_a_version(catalog: DiscoveryFolder) -> None:
    catalog.write("Weather", "1 / 0")
    registry.refresh()

    entry = registry.resolve("weather")
    assert (entry.state, entry.generation, entry.digest, entry.name) == (State.BROKEN, None, "", "Weather")


def test_removed_folder_vanishes_with_its_modules(two_agents: DiscoveryFolder) -> None:
    package = generation("default/weather").package
    (two_agents.path / "Weather" / "agent.py").unlink()
    (two_agents.path / "Weather").rmdir()

    assert registry.refresh() == Changes(gone=("default/weather",))
    assert list(registry.entries()) == ["labs/planner"]
    assert [name for name in modules() if name.startswith(package)] == []


def test_held_version_keeps_its_modules_until_it_is_released(catalog: DiscoveryFolder) -> None:
    text = "from agents import Agent\ndef late():\n    import names\n    return names.name\nagent = Agent(name='x')"
    catalog.write("Weather", text, names="name = 'one'")
    registry.refresh()
    old = generation("default/weather")
    late = vars(sys.modules[f"{old.package}.agent"])["late"]

    with old.hold():
        catalog.write("Weather", text + "\n", names="name = 'two'")
        registry.refresh()
        assert generation("default/weather").number > old.number
        assert f"{old.package}.agent" in sys.modules
        # The file on the disk is the new one: what was not imported before is read as it is now.
        assert late() == "two"
    assert f"{old.package}.agent" not in sys.modules

    with old.hold():  # a run that resolved the entry just before the swap
        assert late() == "two"
    assert [name for name in modules() if name.startswith(old.package)] == []
    old.retire()
    assert generation("default/weather").package in modules()


def test_problems_include_ids_without_an_entry(catalog: DiscoveryFolder, settings: LazySettings) -> None:
    settings.GATEWAY_AGENT_DISCOVERY_DENYLIST = ["default/secret"]
    catalog.write("Secret", "import sys; sys.modules['_executed'] = sys")
    catalog.write("weather", "1 / 0")
    (catalog.path / "weather2").mkdir()
    (catalog.path / "weather2" / "main.py").touch()
    registry.refresh()

    assert [(agent_id, one.code) for agent_id, one in registry.problems()] == [
        ("default/weather", "import_error"),
        ("default/secret", "denied"),
        ("default/weather2", "no_agent_file"),
    ]
    assert "_executed" not in sys.modules


WRITER = """
from pathlib import Path
from agents import Agent
notes = Path(__file__).with_name("notes.txt")
notes.write_text({text})
agent = Agent(name="W")
"""


def test_module_that_writes_the_same_beside_itself_comes_to_rest(catalog: DiscoveryFolder) -> None:
    """What was loaded while files changed may be a mixture of two versions, so it is loaded again; but not for ever."""
    catalog.write("Writer", WRITER.format(text="'one'"))

    loads = [registry.refresh().loaded for _ in range(6)]

    assert loads == [("default/writer",)] * 3 + [()] * 3
    (folder,) = registry._scan().folders
    assert registry.entries()["default/writer"].digest == scan.digest(folder)


def test_module_that_always_writes_something_else_is_left_alone_ever_longer(
    catalog: DiscoveryFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(generations, "monotonic", lambda: now)
    catalog.write("Writer", WRITER.format(text="notes.exists() and notes.read_text() + 'x' or 'x'"))
    with capture_logs() as logs:
        assert [bool(registry.refresh()) for _ in range(5)] == [True, True, True, False, False]
    assert [one["agent"] for one in logs if one["event"] == "agent_writes_into_its_folder"] == ["default/writer"]

    now += 1.1
    assert [bool(registry.refresh()) for _ in range(2)] == [True, False]
    now += 1.1
    assert not registry.refresh()
    now += 1.1
    assert registry.refresh()


# --- the discovery thread --------------------------------------------------------------------------------------------


@pytest.fixture
def discover(settings: LazySettings) -> Iterator[Callable[[str], registry.Discovery]]:
    """Starts the discovery of a server in the given mode."""
    started: list[registry.Discovery] = []

    def discover(mode: str) -> registry.Discovery:
        settings.GATEWAY_AGENT_WATCH = mode == "watch"
        settings.GATEWAY_AGENT_AUTO_RELOAD = mode != "off"
        started.append(registry.Discovery())
        started[-1].start()
        assert registry.discovery_mode().name == mode
        return started[-1]

    yield discover
    for one in started:
        one.stop()


@pytest.fixture(params=["watch", "scan"])
def discovery(two_agents: DiscoveryFolder, discover: Any, request: pytest.FixtureRequest) -> registry.Discovery:
    started: registry.Discovery = discover(request.param)
    return started


def test_discovery_follows_edits_new_and_removed_folders(discovery: Any, two_agents: DiscoveryFolder) -> None:
    two_agents.write_agent("Fresh", "Fresh")
    until(lambda: "default/fresh" in registry.entries())
    two_agents.write_agent("Weather", "Edited")
    until(lambda: agent_name("default/weather") == "Edited")
    two_agents.write("Weather", "1 / 0")
    until(lambda: registry.entries()["default/weather"].state == State.STALE)
    (two_agents.path / "Fresh" / "agent.py").unlink()
    until(lambda: "default/fresh" not in registry.entries())
    gone = DropIn.objects.filter(agent_id="default/fresh", state=State.GONE)
    until(gone.exists)


@pytest.mark.parametrize("mode", ["watch", "scan", "off"])
def test_changed_options_load_an_agent_anew_without_a_change_of_its_files(
    two_agents: DiscoveryFolder, discover: Any, mode: str
) -> None:
    discover(mode)
    before, other = generation("default/weather"), generation("labs/planner")

    set_agent("default/weather", build_per_run=True)

    until(lambda: generation("default/weather").number > before.number)
    assert generation("labs/planner") is other


def test_folder_behind_a_link_is_followed(two_agents: DiscoveryFolder, discover: Any, tmp_path: Path) -> None:
    """Its files are not below the discovery folder; a second link to the same place hides it from the watch."""
    elsewhere = DiscoveryFolder(tmp_path / "elsewhere")
    elsewhere.write_agent("Linked", "one")
    (two_agents.path / "Linked").symlink_to(elsewhere.path / "Linked")
    (two_agents.path / "Again").symlink_to(elsewhere.path / "Linked")
    file = tmp_path / "words.py"
    file.write_text("name = 'one'")
    two_agents.write("Reader", "from agents import Agent\nfrom words import name\nagent = Agent(name=name)")
    (two_agents.path / "Reader" / "words.py").symlink_to(file)
    discover("watch")

    elsewhere.write_agent("Linked", "two")
    file.write_text("name = 'two'")

    linked = ("default/linked", "default/again", "default/reader")
    until(lambda: [agent_name(agent_id) for agent_id in linked] == ["two", "two", "two"])
    assert registry.discovery_mode().name == "watch"
    for link in ("Linked", "Again", "Reader/words.py"):
        (two_agents.path / link).unlink()


def test_change_that_nothing_reported_is_found_and_ends_the_watch(
    two_agents: DiscoveryFolder, discover: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write through memory is one that inotify does not report, as those of other machines on a network share."""
    monkeypatch.setattr(watch, "NET_SECONDS", 0.5)
    discover("watch")
    with (two_agents.path / "Weather" / "agent.py").open("r+b") as file, mmap.mmap(file.fileno(), 0) as content:
        content[:] = bytes(content).replace(b"Storm Watch", b"Storm Glass")
        content.flush()

    until(lambda: agent_name("default/weather") == "Storm Glass")
    until(lambda: registry.discovery_mode().name == "scan")
    assert "Weather was not reported by the operating system" in registry.discovery_mode().reason
    two_agents.write_agent("Weather", "Seen by the scan")
    until(lambda: agent_name("default/weather") == "Seen by the scan")


def test_process_without_a_discovery_follows_nothing(two_agents: DiscoveryFolder) -> None:
    assert registry.discovery_mode().name == "off"


def test_first_look_that_fails_is_made_up_for(
    catalog: DiscoveryFolder, settings: LazySettings, monkeypatch: pytest.MonkeyPatch, discover: Any
) -> None:
    catalog.write_agent("Weather", "W")
    del settings.GATEWAY_AGENT_DISCOVERY_ALLOWLIST
    discovery = discover("watch")
    assert registry.entries() == {}

    settings.GATEWAY_AGENT_DISCOVERY_ALLOWLIST = []

    until(lambda: list(registry.entries()) == ["default/weather"])
    discovery.stop()


def test_folder_that_keeps_changing_waits_and_disturbs_no_other(two_agents: DiscoveryFolder) -> None:
    first = registry._scan()
    two_agents.write_agent("Weather", "Half saved")
    two_agents.write_agent("labs/Planner", "New Planner")
    second = registry._scan()
    two_agents.write_agent("Weather", "Saved, longer")
    third = registry._scan()

    settled = registry._generations.settled(second, third)
    fingerprints = {folder.agent_id: folder for folder in settled.folders}
    assert fingerprints["default/weather"] == {one.agent_id: one for one in first.folders}["default/weather"]
    assert fingerprints["labs/planner"] == {one.agent_id: one for one in third.folders}["labs/planner"]


def test_reading_needs_no_database(two_agents: DiscoveryFolder, django_assert_num_queries: Any) -> None:
    live_config.refresh()
    registry.entries()
    with django_assert_num_queries(0):
        assert registry.resolve("weather").agent_id == "default/weather"
        assert len(registry.entries()) == 2


def test_examples_load(settings: LazySettings, demo_upstream: None, tmp_path: Path) -> None:
    settings.GATEWAY_AGENT_DISCOVERY_PATH = [settings.ROOT / "agents"]
    registry.refresh()
    found = {id: (one.state, one.problems, bool(one.description)) for id, one in registry.entries().items()}
    settings.GATEWAY_AGENT_DISCOVERY_PATH = [tmp_path]
    registry.refresh()

    assert found == {f"default/{name}": (State.LIVE, (), True) for name in ("concierge", "newsroom", "sampleagent")}


def test_edit_that_is_refused_keeps_the_last_good_version(two_agents: DiscoveryFolder) -> None:
    good = generation("default/weather")
    chat_only = "OpenAIChatCompletionsModel('m', AsyncOpenAI())"
    two_agents.write(
        "Weather",
        f"from agents import *\nfrom openai import AsyncOpenAI\n"
        f"agent = Agent(name='W', model={chat_only}, tools=[WebSearchTool()])",
    )
    before = modules()

    assert registry.refresh() == Changes(failed=("default/weather",))
    entry = registry.entries()["default/weather"]
    assert (entry.state, entry.generation) == (State.STALE, good)
    assert [one.code for one in entry.problems] == ["own_model", "needs_responses"]
    assert modules() == before


def test_variables_that_differ_in_case_alone_publish_the_first(catalog: DiscoveryFolder) -> None:
    catalog.write(
        "Desk", "from agents import Agent\nDESK = Agent(name='1')\ndesk = Agent(name='2')\nx = Agent(name='3')"
    )
    registry.refresh()

    assert list(registry.entries()) == ["default/desk.desk", "default/desk.x"]
    assert agent_name("default/desk.desk") == "1"


async def test_discovery_may_be_started_on_an_event_loop(catalog: DiscoveryFolder, settings: LazySettings) -> None:
    settings.GATEWAY_AGENT_AUTO_RELOAD = False
    catalog.write_agent("Weather", "W")
    discovery = registry.Discovery()
    discovery.start()
    discovery.stop()

    assert registry._found.agents["default/weather"].state == State.LIVE
    assert await DropIn.objects.acount() == 1
