"""Which modules may load, with two worker processes: rules, denied imports, and the lock. Code that may not load is
never executed, which a file that each module writes at its import proves."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import write_source
from tests.harness import GatewayServer, eventually
from tests.harness.asking import ask_whole
from tests.harness.gateway import Answer

ID = "default/weather"


class Weather:
    """An agent whose module leaves a line in a file when it is imported, and that answers with its instructions."""

    def __init__(self, gateway: GatewayServer, executed: Path) -> None:
        self.gateway, self.executed = gateway, executed
        self._admin = {"x-api-key": gateway.operator.issue_key("of the operator", may_administer=True)["credential"]}
        eventually(lambda: {self._asked().status for _ in range(8)}, {200})

    def edit(self, word: str, *, imports: str = "json", **files: str) -> None:
        write_weather(self.gateway.agents / "Weather", self.executed, word, imports)
        for name, text in files.items():
            (self.gateway.agents / "Weather" / f"{name}.py").write_text(text)

    def said(self) -> set[str]:
        """What the instructions are in several chats, each on a connection of its own: both workers get some."""
        words = set()
        for _ in range(6):
            with self.gateway.openai() as client:
                words |= set(re.findall(r"Say (\w+)\.", ask_whole(client, ID, "Hello.").content))
        return words

    def errors(self) -> list[dict[str, Any]]:
        """What the operators' API says is wrong with it."""
        return [one for one in self._asked().json()["data"] if one["agent"] == ID]

    def _asked(self) -> Answer:
        return self.gateway.request("GET", "/admin/agents/errors?kind=diagnostic", headers=self._admin)

    def was_executed(self) -> set[str]:
        """The words of the versions that were imported since the last call."""
        words = set(self.executed.read_text().split()) if self.executed.exists() else set()
        self.executed.unlink(missing_ok=True)
        return words


def write_weather(folder: Path, executed: Path, word: str, imports: str = "json") -> None:
    write_source(
        folder,
        f"import {imports}\nfrom agents import Agent\n"
        f"with open({str(executed)!r}, 'a') as file:\n    file.write('{word}\\n')\n"
        f"agent = Agent(name='Weather', instructions='Say {word}.')\n",
    )


@pytest.fixture
def executed(tmp_path: Path) -> Path:
    return tmp_path / "executed.txt"


@pytest.fixture
def start_weather(
    start_gateway: Callable[..., GatewayServer],
    two_workers: Callable[[], dict[str, str]],
    executed: Path,
    tmp_path: Path,
) -> Callable[..., Any]:
    def start(word: str = "one", **settings: str) -> Weather:
        write_weather(tmp_path / "first", executed, word)
        source = (tmp_path / "first" / "agent.py").read_text()
        plain = "import string\nfrom agents import Agent\nagent = Agent(name='Plain')\n"
        gateway = start_gateway({"Weather": source, "Plain": plain}, **two_workers(), **settings)
        eventually(lambda: worker_count(gateway), 2, within=30)
        return Weather(gateway, executed)

    return start


@pytest.fixture
def weather(start_weather: Callable[..., Weather]) -> Weather:
    return start_weather()


def worker_count(gateway: GatewayServer) -> int:
    return int(gateway.operator.worker_count())


def listed(gateway: GatewayServer) -> set[tuple[str, ...]]:
    """The lists of models that several connections get."""
    found = set()
    for _ in range(6):
        client = gateway.openai(default_headers={"Connection": "close"})
        found.add(tuple(sorted(one.id for one in client.models.list())))
    return found


def meta(gateway: GatewayServer, agent_id: str = ID) -> dict[str, Any]:
    (found,) = (one for one in gateway.openai().models.list() if one.id == agent_id)
    return dict(found.info["meta"])  # type: ignore[attr-defined]


# --- rules -----------------------------------------------------------------------------------------------------------


def test_denied_agent_is_gone_and_executed_by_no_worker_until_the_rule_is(weather: Weather) -> None:
    gateway = weather.gateway
    assert weather.was_executed() == {"one"}
    gateway.operator.put_module_rule("*weather", "deny", "Under review")
    eventually(lambda: listed(gateway), {("default/plain",)})

    weather.edit("two")
    eventually(lambda: [one["code"] for one in weather.errors()], ["denied"])
    (told,) = weather.errors()
    assert told["reason"] == (
        "default/weather is not loaded: the rule that denies “*weather” decides (Under review). "
        "None of its code was executed."
    )
    assert gateway.operator.agent_state(ID) == "denied"
    write_weather(gateway.agents / "Later", weather.executed, "later")
    eventually(lambda: listed(gateway), {("default/later", "default/plain")})  # so the folders were looked at since
    assert weather.was_executed() == {"later"}

    gateway.operator.put_module_rule(ID, "allow")  # more specific
    eventually(lambda: listed(gateway), {("default/later", "default/plain", ID)})
    assert weather.said() == {"two"}
    assert weather.was_executed() == {"two"}


# --- imports ---------------------------------------------------------------------------------------------------------


def test_denied_import_keeps_an_edit_out_and_a_new_denial_stops_what_serves(weather: Weather) -> None:
    gateway = weather.gateway
    gateway.operator.set_module_policy(denied_imports=["subprocess", "string"])
    eventually(lambda: listed(gateway), {(ID,)})  # Plain imports string
    weather.was_executed()
    weather.edit("two", helpers="import os\n\ndef run():\n    from subprocess import run\n")
    eventually(lambda: [one["code"] for one in weather.errors()], ["denied_import"])
    (told,) = weather.errors()
    assert (told["file"], told["line"], told["state"]) == (str(gateway.agents / "Weather" / "helpers.py"), 4, "stale")
    assert told["reason"] == "It imports subprocess, which the import policy denies."
    assert (weather.said(), weather.was_executed()) == ({"one"}, set())

    (gateway.agents / "Weather" / "helpers.py").unlink()
    eventually(weather.said, {"two"})
    assert weather.was_executed() == {"two"}
    gateway.operator.set_module_policy(denied_imports=["subprocess", "json"])
    eventually(lambda: listed(gateway), {("default/plain",)})
    assert [one["state"] for one in weather.errors()] == ["broken"]
    gateway.operator.set_module_policy(denied_imports=[])
    eventually(lambda: listed(gateway), {("default/plain", ID)})


# --- the lock --------------------------------------------------------------------------------------------------------


def test_locked_edit_serves_once_it_is_approved(weather: Weather) -> None:
    gateway = weather.gateway
    eventually(gateway.operator.approve_serving, 2)
    weather.was_executed()
    gateway.operator.set_module_policy(locked=True)
    # Again, from copies of what is approved, by each of the two workers.
    eventually(lambda: weather.executed.exists() and weather.executed.read_text(), "one\none\n")
    assert (listed(gateway), weather.said()) == ({("default/plain", ID)}, {"one"})
    weather.was_executed()

    weather.edit("two")
    write_weather(gateway.agents / "Newcomer", weather.executed, "new")
    eventually(lambda: [one["code"] for one in weather.errors()], ["not_approved"])
    eventually(lambda: meta(gateway)["stale"], True)
    eventually(lambda: gateway.operator.agent_state("default/newcomer"), "broken")
    assert gateway.operator.diagnostics("default/newcomer") == ["not_approved"]
    assert listed(gateway) == {("default/plain", ID)}
    assert (weather.said(), weather.was_executed()) == ({"one"}, set())
    assert gateway.operator.kept_versions("default/newcomer") == 0

    gateway.operator.approve_folder(ID)
    eventually(weather.said, {"two"})
    assert (weather.was_executed(), meta(gateway)["stale"]) == ({"two"}, False)
    gateway.operator.approve_folder("default/newcomer")
    eventually(lambda: listed(gateway), {("default/newcomer", "default/plain", ID)})


def test_locked_restart_serves_what_was_approved_whatever_lies_in_the_folder(weather: Weather) -> None:
    gateway = weather.gateway
    eventually(gateway.operator.approve_serving, 2)
    gateway.operator.set_module_policy(locked=True)
    weather.edit("two")
    eventually(lambda: [one["code"] for one in weather.errors()], ["not_approved"])
    gateway.stop()
    weather.edit("three")
    weather.was_executed()

    gateway.start()
    eventually(lambda: worker_count(gateway), 2, within=30)
    assert (weather.said(), weather.was_executed()) == ({"one"}, {"one"})
    eventually(lambda: gateway.operator.agent_state(ID), "stale")


def test_lock_of_the_environment_executes_nothing_that_nobody_approved(start_weather: Callable[..., Weather]) -> None:
    weather = start_weather(GATEWAY_AGENT_LOCKED="true")
    gateway = weather.gateway
    assert (listed(gateway), weather.was_executed()) == ({()}, set())
    gateway.operator.set_module_policy(locked=False)
    assert [(one["code"], one["state"]) for one in weather.errors()] == [("not_approved", "broken")]
    gateway.operator.approve_folder(ID)
    eventually(lambda: listed(gateway), {(ID,)})
    assert weather.said() == {"one"}
