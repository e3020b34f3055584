"""Edits under a running gateway: live at once, whole, and in every worker."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from apps.catalog import scan
from apps.catalog.registry import SETTLE_SECONDS
from tests.conftest import write_source
from tests.harness import GatewayServer, Template, eventually
from tests.harness.processes import ROOT

SIMPLE = 'from agents import Agent\n\nagent = Agent(name="{name}", instructions="Version {version}.")\n'
MANY = 200
LIVE_WITHIN = 0.3  # seconds from the save, promised by docs/operation.md
LIVE_ON_A_BUSY_MACHINE = 1.0
EDITS = 9


def versions(gateway: GatewayServer) -> dict[str, str]:
    """What one answer lists: ids and the digests of the versions that serve, as one worker has them."""
    data = gateway.with_key("GET", "/v1/models").json()["data"]
    return {one["id"]: one["info"]["meta"]["version"] for one in data}


def versions_on_disk(agents: Path) -> dict[str, str]:
    return {one.agent_id: scan.digest(one)[:12] for one in scan.scan([agents]).folders}


def seconds_until_live(gateway: GatewayServer, folder: Path, source: str) -> float:
    write_source(folder, source)
    saved = time.perf_counter()
    expected = versions_on_disk(gateway.agents)
    eventually(lambda: versions(gateway), expected, within=10)
    return time.perf_counter() - saved


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory, template: Template) -> Iterator[GatewayServer]:
    folder = tmp_path_factory.mktemp("watched")
    write_source(folder / "agents" / "Edited", SIMPLE.format(name="Edited", version=0))
    with GatewayServer(folder / "data", agents=folder / "agents", template=template) as server:
        yield server


def test_edit_is_live_within_the_promised_time(watched: GatewayServer) -> None:
    folder = watched.agents / "Edited"

    seconds = [
        seconds_until_live(watched, folder, SIMPLE.format(name="Edited", version=number + 1)) for number in range(EDITS)
    ]

    assert min(seconds) < LIVE_WITHIN
    assert median(seconds) < LIVE_ON_A_BUSY_MACHINE


@pytest.mark.parametrize("name", ["requirements.txt", "prompts/system.md", "tools/helper.py"])
def test_any_file_of_the_folder_counts(watched: GatewayServer, name: str) -> None:
    before = versions(watched)["default/edited"]
    path = watched.agents / "Edited" / name

    write_source(path.parent, "# nothing\n", name=path.name)

    eventually(lambda: versions(watched), versions_on_disk(watched.agents))
    assert versions(watched)["default/edited"] != before


PIECES = ["from agents import Agent\n", "agent = Agent(", 'name="Edited", ', 'instructions="{attempt}"', ")\n"]


def save_in_pieces(file: Path, attempt: int) -> float:
    """The longest time in which nothing was written."""
    longest, before = 0.0, time.perf_counter()
    with file.open("w") as saving:
        for piece in PIECES:
            saving.write(piece.format(attempt=attempt))
            saving.flush()
            longest, before = max(longest, time.perf_counter() - before), time.perf_counter()
            time.sleep(0.04)
    return longest


def test_half_saved_file_is_waited_for(watched: GatewayServer) -> None:
    """No piece is taken for a version, and none is reported as broken."""

    def loaded() -> set[str]:
        return {line["version"] for line in watched.log(event="agent_loaded", agent="default/edited")}

    for attempt in range(10):
        known, broken = loaded() | {versions(watched)["default/edited"]}, len(watched.log(event="agent_not_loaded"))
        longest = save_in_pieces(watched.agents / "Edited" / "agent.py", attempt)
        eventually(lambda: versions(watched), versions_on_disk(watched.agents))
        if longest < SETTLE_SECONDS - 0.02:
            break
    else:
        pytest.skip("this machine pauses for longer than a folder has to be at rest")

    eventually(lambda: loaded() - known, {versions(watched)["default/edited"]})
    assert len(watched.log(event="agent_not_loaded")) == broken


def test_settings_alone_load_an_agent_anew(watched: GatewayServer) -> None:
    refreshed = len(watched.log(event="agents_refreshed"))

    watched.operator.set_agent("default/edited", build_per_run=True)

    eventually(lambda: len(watched.log(event="agents_refreshed")), refreshed + 1)
    assert watched.log(event="agents_refreshed")[-1]["loaded"] == ["default/edited"]


def test_gateway_without_watchfiles_says_so_and_scans(
    tmp_path: Path, template: Template, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "packages" / "watchfiles"
    write_source(broken, "raise ImportError('not on this machine')\n", name="__init__.py")
    write_source(tmp_path / "agents" / "Edited", SIMPLE.format(name="Edited", version=0))
    path = f"{broken.parent}{os.pathsep}{ROOT}"
    with GatewayServer(tmp_path / "data", agents=tmp_path / "agents", template=template, PYTHONPATH=path) as server:
        lines = server.log(event="agent_watch_unavailable")
        seconds_until_live(server, server.agents / "Edited", SIMPLE.format(name="Edited", version=1))

    assert [(one["mode"], one["level"], one["reason"]) for one in lines] == [
        (
            "scan",
            "warning",
            "watchfiles cannot be imported (not on this machine). Install it: `pip install watchfiles`.",
        )
    ]


def test_gateway_that_is_told_so_follows_nothing(tmp_path: Path, template: Template) -> None:
    folder = tmp_path / "agents" / "Edited"
    write_source(folder, SIMPLE.format(name="Edited", version=0))
    settings: dict[str, Any] = {"agents": folder.parent, "GATEWAY_AGENT_AUTO_RELOAD": "false"}
    with GatewayServer(tmp_path / "data", template=template, **settings) as server:
        before = versions(server)
        write_source(folder, SIMPLE.format(name="Edited", version=1))
        server.operator.set_agent("default/edited", aliases=["seen"])  # half a second later than the edit
        eventually(lambda: server.with_key("GET", "/v1/models/seen").status, 200)
        assert versions(server) == before


# --- many at once, and two workers -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Repository:
    """A repository cloned into the discovery folder, with two branches that differ in every agent."""

    path: Path

    def create(self) -> None:
        self.path.mkdir(parents=True)
        self._git("init", "-q", "-b", "one")
        self._commit("one", range(MANY))
        self._git("checkout", "-q", "-b", "two")
        for number in range(0, MANY, 10):
            shutil.rmtree(self.path / f"Agent{number:03}")
        self._commit("two", [number for number in range(MANY + 20) if number % 10])
        self.check_out("one")

    def check_out(self, branch: str) -> None:
        self._git("checkout", "-q", branch)

    def _commit(self, branch: str, numbers: Iterable[int]) -> None:
        source = "from agents import Agent\nfrom words import words\nagent = Agent(name=words, instructions=words)\n"
        for number in numbers:
            folder = self.path / f"Agent{number:03}"
            write_source(folder, f"{source}# {branch}\n")
            write_source(folder, f'words = "{branch} {number}"\n', name="words.py")
        self._git("add", "-A")
        self._git("-c", "user.name=t", "-c", "user.email=t@example.com", "commit", "-q", "-m", branch)

    def _git(self, *arguments: str) -> None:
        subprocess.run(["git", "-C", str(self.path), *arguments], check=True, capture_output=True, timeout=60)


@pytest.fixture(scope="module")
def pair(
    tmp_path_factory: pytest.TempPathFactory, template: Template, two_workers: Callable[[], dict[str, str]]
) -> Iterator[GatewayServer]:
    folder = tmp_path_factory.mktemp("two-workers")
    Repository(folder / "agents").create()
    with GatewayServer(folder / "data", agents=folder / "agents", template=template, **two_workers()) as server:
        eventually(lambda: len(server.log(event="worker_started")), 2, within=30)
        yield server


def versions_everywhere(gateway: GatewayServer) -> list[dict[str, str]]:
    """The different lists that the workers give; many requests on connections of their own reach both."""
    with ThreadPoolExecutor(8) as pool:
        listed = list(pool.map(lambda _: versions(gateway), range(16)))
    return [one for number, one in enumerate(listed) if one not in listed[:number]]


def names(gateway: GatewayServer) -> set[str]:
    """The first word of every agent's name: the branch that its helper file was read from."""
    return {one["name"].split()[0] for one in gateway.with_key("GET", "/v1/models").json()["data"]}


def test_checkout_over_two_hundred_agents_ends_in_one_state(pair: GatewayServer) -> None:
    """Files vanish and appear while others are loaded; what serves in the end is what lies there, in both workers."""
    repository = Repository(pair.agents)
    for branch in ("two", "one", "two", "one", "two"):
        repository.check_out(branch)
        time.sleep(0.15)  # into the loading of the one before

    expected = versions_on_disk(pair.agents)
    eventually(lambda: versions_everywhere(pair), [expected], within=30)
    assert len(expected) == 198
    assert names(pair) == {"two"}
    assert {pair.operator.agent_state(agent_id) for agent_id in expected} == {"live"}
    assert pair.operator.agent_state("default/agent000") == "gone"


def test_workers_agree_on_an_edit_within_two_seconds(pair: GatewayServer) -> None:
    folder, seconds = pair.agents / "Agent001", []

    while len(seconds) < 3 and min(seconds, default=9) > 2:  # the best counts: machines stand still at times
        write_source(folder, f'words = "edited {len(seconds)}"\n', name="words.py")
        saved = time.perf_counter()
        eventually(lambda: versions_everywhere(pair), [versions_on_disk(pair.agents)], within=20)
        seconds.append(time.perf_counter() - saved)

    assert min(seconds) < 2
