"""Agents edited, added, broken and removed while the gateway serves."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.conftest import write_source
from tests.harness import GatewayServer, Template, eventually
from tests.harness.asking import ask_whole, deltas

VERSIONED = '''
import asyncio
from pathlib import Path

from agents import Agent, function_tool

VERSION = "{version}"


@function_tool
async def tell_version(path: str) -> str:
    """Tell the version, once the file is there."""
    Path(path + ".started").touch()
    while not Path(path).exists():
        await asyncio.sleep(0.02)
    return VERSION


agent = Agent(name="Versioned", instructions="I am {version}.", tools=[tell_version])
'''
SIMPLE = 'from agents import Agent\n\nagent = Agent(name="{name}", instructions="I am {name}.")\n'


@pytest.fixture(scope="module")
def reloading(tmp_path_factory: pytest.TempPathFactory, template: Template) -> Iterator[GatewayServer]:
    folder = tmp_path_factory.mktemp("reloading")
    write_source(folder / "agents" / "Versioned", VERSIONED.format(version="one"))
    write_source(folder / "agents" / "Bystander", SIMPLE.format(name="Bystander"))
    with GatewayServer(folder / "data", agents=folder / "agents", template=template) as server:
        yield server


def instructions_of(gateway: GatewayServer, agent: str) -> str:
    """What the demo says that its instructions are, or the error's code."""
    try:
        content = ask_whole(gateway.openai(), agent, "Hello").content
    except openai.APIStatusError as error:
        return str(error.code)
    return content.partition("My instructions are: “")[2].partition("”")[0]


def test_streams_under_way_end_on_the_version_they_began_with(reloading: GatewayServer, tmp_path: Path) -> None:
    client = reloading.openai()
    go = tmp_path / "go"
    streams = []
    for number in range(20):
        flag = tmp_path / f"{number}"
        flag.symlink_to(go)
        asked = f"[[tool=tell_version]] [[args={json.dumps({'path': str(flag)})}]]"
        messages: Any = [{"role": "user", "content": asked}]
        streams.append(client.chat.completions.create(model="default/versioned", messages=messages, stream=True))
    eventually(lambda: len(list(tmp_path.glob("*.started"))), 20)

    write_source(reloading.agents / "Versioned", VERSIONED.format(version="two"))
    eventually(lambda: instructions_of(reloading, "default/versioned"), "I am two.")
    write_source(reloading.agents / "Versioned", VERSIONED.format(version="three"))
    eventually(lambda: instructions_of(reloading, "default/versioned"), "I am three.")
    go.touch()

    for stream in streams:
        content = "".join(deltas(list(stream), "content"))
        assert "The tool tell_version returned: one" in content
        assert "My instructions are: “I am one.”" in content


def test_new_folder_is_listed_and_answers(reloading: GatewayServer) -> None:
    write_source(reloading.agents / "Weather", SIMPLE.format(name="Weather"))

    eventually(lambda: instructions_of(reloading, "default/weather"), "I am Weather.")
    assert "default/weather" in {one.id for one in reloading.openai().models.list()}


def test_broken_edit_keeps_the_last_good_version_and_mending_it_brings_the_new_one(reloading: GatewayServer) -> None:
    folder = reloading.agents / "Fragile"
    write_source(folder, SIMPLE.format(name="Fragile"))
    eventually(lambda: instructions_of(reloading, "default/fragile"), "I am Fragile.")

    write_source(folder, "from agents import Agent\n\nagent = Agent(name=")
    eventually(lambda: reloading.operator.agent_state("default/fragile"), "stale")
    assert instructions_of(reloading, "default/fragile") == "I am Fragile."
    meta = reloading.openai().models.retrieve("default/fragile").model_dump()["info"]["meta"]
    assert meta["stale"] is True

    write_source(folder, SIMPLE.format(name="Mended"))
    eventually(lambda: instructions_of(reloading, "default/fragile"), "I am Mended.")
    eventually(lambda: reloading.operator.agent_state("default/fragile"), "live")


def test_new_folder_that_is_broken_disturbs_nobody(reloading: GatewayServer) -> None:
    write_source(reloading.agents / "Hopeless", "import no_such_package_anywhere\n")

    eventually(lambda: reloading.operator.agent_state("default/hopeless"), "broken")
    assert instructions_of(reloading, "default/hopeless") == "agent_broken"
    assert instructions_of(reloading, "default/bystander") == "I am Bystander."
    assert "default/hopeless" not in {one.id for one in reloading.openai().models.list()}


def test_removed_folder_is_gone(reloading: GatewayServer) -> None:
    folder = reloading.agents / "Passing"
    write_source(folder, SIMPLE.format(name="Passing"))
    eventually(lambda: instructions_of(reloading, "default/passing"), "I am Passing.")

    shutil.rmtree(folder)

    eventually(lambda: instructions_of(reloading, "default/passing"), "model_not_found")


def test_edited_helper_file_is_a_new_version(reloading: GatewayServer) -> None:
    folder = reloading.agents / "Helped"
    write_source(folder, 'INSTRUCTIONS = "I am old."\n', name="words.py")
    write_source(
        folder,
        "from agents import Agent\nfrom words import INSTRUCTIONS\n"
        'agent = Agent(name="Helped", instructions=INSTRUCTIONS)\n',
    )
    eventually(lambda: instructions_of(reloading, "default/helped"), "I am old.")

    write_source(folder, 'INSTRUCTIONS = "I am new."\n', name="words.py")

    eventually(lambda: instructions_of(reloading, "default/helped"), "I am new.")


def test_only_what_changed_is_loaded_again(reloading: GatewayServer) -> None:
    write_source(reloading.agents / "Single", SIMPLE.format(name="Single"))

    eventually(lambda: instructions_of(reloading, "default/single"), "I am Single.")
    line = reloading.log(event="agents_refreshed")[-1]
    assert (line["loaded"], line["failed"], line["gone"]) == (["default/single"], [], [])
