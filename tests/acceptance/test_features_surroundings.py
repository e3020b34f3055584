"""What modules do to the process: tracing, default clients, the environment, main()."""

import pytest

from tests.acceptance.conftest import Alike, AskAgent
from tests.harness import GatewayServer


def test_module_may_open_traces_of_its_own(alike: Alike) -> None:
    told, calls = alike("Traces", '[[tool=traced]] [[args={"topic": "frogs"}]]')

    assert [call.system for call in calls] == ["Use tools.", "You are the inner agent.", "Use tools."]
    assert "The tool traced returned: This is the built-in demo upstream" in told.content


def test_module_may_turn_tracing_off(alike: Alike) -> None:
    alike("Traces", "[[tool=switch_off]]")


def test_default_client_of_a_module_is_left_aside(ask_agent: AskAgent) -> None:
    told, calls = ask_agent("default/clients", "[[say=Hello.]]")

    assert (told.content, [call.upstream for call in calls]) == ("Hello.", ["first"])


def test_default_client_set_in_a_tool_changes_nobodys_route(ask_agent: AskAgent) -> None:
    _, calls = ask_agent("default/clientslate", '[[tool=ask_elsewhere]] [[args={"question": "Where?"}]]')
    told, later = ask_agent("default/upstreams", "[[say=Still here.]]")

    assert [call.upstream for call in [*calls, *later]] == ["first"] * 4
    assert told.content == "Still here."


def test_environment_is_read_from_the_file_beside_the_code(alike: Alike) -> None:
    told, _ = alike("Environment", "[[tool=greeting]]")

    assert "The tool greeting returned: Hello from the file!" in told.content


def test_missing_variable_read_in_a_tool_is_told_to_the_model(alike: Alike) -> None:
    alike("Environment", "[[tool=secret]]")


def test_guarded_main_is_not_run(alike: Alike) -> None:
    alike("MainScript", "Hello")


def test_main_without_a_guard_runs_at_import_and_the_agent_serves(ask_agent: AskAgent) -> None:
    told, calls = ask_agent("default/mainunguarded", "Hello")

    assert "My instructions are: “You are a helpful assistant”. You said: “Hello”." in told.content
    assert len(calls) == 1


@pytest.mark.parametrize("name", ["mainscript", "mainunguarded", "toolprints"])
def test_prints_of_a_module_break_nothing(dropins: GatewayServer, name: str) -> None:
    assert dropins.operator.agent_state(f"default/{name}") == "live"
