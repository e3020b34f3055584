"""How operators have a module's agent run, without touching its code: another model, parameters, bounds, draining."""

import signal
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest

from tests.conftest import write_agent, write_source
from tests.harness import DemoServer, FaultyServer, GatewayServer, Template, eventually
from tests.harness.asking import Ask, ask_whole
from tests.v1.test_cancel import leave, send

WORKFLOW = """
from agents import Agent, ModelSettings, RunConfig, Runner

answerer = Agent(name="Answerer", model="faulty/{model}", model_settings=ModelSettings(temperature=0.9), tools={tools})


async def run_workflow(text: str):
    result = await Runner.run(answerer, text, run_config=RunConfig(model_settings=ModelSettings(top_p=0.8)))
    return result.final_output
"""
TOOL = """
from agents import function_tool


@function_tool
def get_weather(city: str) -> str:
    return "Rain"
"""
LONG = "[[words=20]] [[delay=0.05]]"  # a second


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, template: Template) -> Iterator[GatewayServer]:
    folder = tmp_path_factory.mktemp("run-options")
    agents = folder / "agents"
    write_agent(agents / "Plain", model="demo")
    write_agent(agents / "Patient", model="demo")  # whose runs drain
    write_agent(agents / "labs" / "Lost", model="gpt-nobody-has")
    write_agent(agents / "Tuned", model="faulty/ok")
    write_agent(agents / "Persistent", model="faulty/tool-repeated-ids", tools=True)  # two rounds of tools
    write_source(agents / "Flow", WORKFLOW.format(model="ok", tools="[]"))
    write_source(agents / "LongFlow", TOOL + WORKFLOW.format(model="tool-repeated-ids", tools="[get_weather]"))
    with GatewayServer(folder / "data", agents=agents, template=template) as started:
        started.operator.set_agent("default/patient", on_disconnect="drain")
        yield started


@pytest.fixture(scope="module")
def publish(server: GatewayServer) -> Callable[[], None]:
    """The one worker reads what operators changed, now."""
    key = server.operator.issue_key("Refresher", may_administer=True)["credential"]

    def refresh() -> None:
        eventually(lambda: server.request("POST", "/security/refresh", headers={"x-api-key": key}).status, 200)

    refresh()
    return refresh


@pytest.fixture
def set_agent(server: GatewayServer, publish: Callable[[], None]) -> Iterator[Callable[..., None]]:
    """Settings as an operator makes them, in force at once; taken back after the test."""
    neutral: dict[str, Any] = {
        "upstream_id": None, "model": "", "parameters": {}, "max_turns": None, "run_timeout": None,
        "on_disconnect": "cancel", "listed": True,
    }  # fmt: skip
    touched = []

    def set_to(agent_id: str, **fields: Any) -> None:
        touched.append(agent_id)
        server.operator.set_agent(agent_id, **fields)
        publish()

    yield set_to
    for agent_id in touched:
        server.operator.set_agent(agent_id, **neutral)
    publish()


def upstream(server: GatewayServer, slug: str) -> int:
    (row,) = server.operator.rows("upstreams.Upstream", slug=slug)
    return int(row["id"])


def asked(server: GatewayServer, ask: Ask, agent: str, text: str = "Hi", **options: Any) -> str:
    return ask(server.openai(), agent, text, **options).content


# --- another model ---------------------------------------------------------------------------------------------------


def test_agent_is_re_pointed_to_another_upstream_and_back(
    server: GatewayServer, set_agent: Callable[..., None], ask: Ask
) -> None:
    assert asked(server, ask, "default/plain", "[[say=The demo.]]") == "The demo."

    set_agent("default/plain", upstream_id=upstream(server, "faulty"), model="ok")
    assert asked(server, ask, "default/plain", "[[say=The demo.]]") == "Hello from the faulty upstream."

    set_agent("default/plain", upstream_id=None, model="")
    assert asked(server, ask, "default/plain", "[[say=The demo.]]") == "The demo."


def test_model_that_no_upstream_has_is_told_of_and_mended_by_another_choice(
    server: GatewayServer, set_agent: Callable[..., None]
) -> None:
    def told() -> list[str]:
        found: list[str] = server.operator.diagnostics("default/plain")
        return found

    set_agent("default/plain", model="gpt-nobody-has")
    eventually(told, ["model_substituted"])
    assert ask_whole(server.openai(), "default/plain", "[[say=The demo.]]").content == "The demo."

    set_agent("default/plain", model="ok")
    eventually(told, [])


def test_namespaces_default_answers_for_models_that_nobody_has(
    server: GatewayServer, publish: Callable[[], None], ask: Ask
) -> None:
    row = server.operator.make("catalog.Namespace", name="labs", upstream_id=upstream(server, "faulty"), model="ok")
    try:
        publish()
        assert asked(server, ask, "labs/lost") == "Hello from the faulty upstream."
        assert asked(server, ask, "default/plain", "[[say=The demo.]]") == "The demo."
    finally:
        server.operator.remove("catalog.Namespace", row)
        publish()
    assert asked(server, ask, "labs/lost", "[[say=The demo.]]") == "The demo."


# --- parameters ------------------------------------------------------------------------------------------------------

PARAMETERS = ("temperature", "top_p", "seed", "max_tokens", "stop", "reasoning_effort", "top_k")


def sent(faulty: FaultyServer) -> dict[str, Any]:
    body = faulty.last()["body"]
    return {name: body[name] for name in PARAMETERS if name in body}


def test_operators_parameters_hold_unless_the_request_says_otherwise(
    server: GatewayServer, set_agent: Callable[..., None], faulty: FaultyServer, ask: Ask
) -> None:
    chosen = {"temperature": 0.2, "seed": 7, "max_completion_tokens": 100, "extra_body": {"top_k": 5}}
    set_agent("default/tuned", parameters=chosen)
    expected = {"temperature": 0.2, "seed": 7, "max_tokens": 100, "top_k": 5}
    asked(server, ask, "default/tuned")
    assert sent(faulty) == expected

    asked(server, ask, "default/tuned", temperature=0.7, max_tokens=20, stop=["x"])
    assert sent(faulty) == {**expected, "temperature": 0.7, "max_tokens": 20, "stop": ["x"]}


def test_operators_parameters_hold_in_the_runs_of_a_workflow(
    server: GatewayServer, set_agent: Callable[..., None], faulty: FaultyServer, ask: Ask
) -> None:
    asked(server, ask, "default/flow")
    assert sent(faulty) == {"temperature": 0.9, "top_p": 0.8}

    set_agent("default/flow", parameters={"temperature": 0.1, "seed": 7})
    asked(server, ask, "default/flow")
    assert sent(faulty) == {"temperature": 0.1, "top_p": 0.8, "seed": 7}


# --- bounds ----------------------------------------------------------------------------------------------------------


def failure(server: GatewayServer, agent: str, text: str = "Hi") -> str | None:
    """The code of the error that the agent answers with."""
    try:
        ask_whole(server.openai(), agent, text)
    except openai.APIStatusError as error:
        return error.code
    return None


@pytest.mark.parametrize("agent", ["default/persistent", "default/longflow"])
def test_turns_are_as_many_as_the_operator_says(
    server: GatewayServer, set_agent: Callable[..., None], agent: str
) -> None:
    assert failure(server, agent) is None
    set_agent(agent, max_turns=2)
    assert failure(server, agent) == "max_turns"


def test_run_is_stopped_after_the_seconds_that_the_operator_says(
    server: GatewayServer, set_agent: Callable[..., None], demo: DemoServer
) -> None:
    set_agent("default/plain", run_timeout=1)
    assert failure(server, "default/plain", "[[words=1000]] [[delay=0.05]]") == "run_timeout"
    eventually(demo.active, 0)


def test_agent_that_is_not_listed_answers_who_knows_its_name(
    server: GatewayServer, set_agent: Callable[..., None]
) -> None:
    set_agent("default/plain", listed=False)
    assert "default/plain" not in [one.id for one in server.openai().models.list()]
    assert server.openai().models.retrieve("default/plain").id == "default/plain"
    assert ask_whole(server.openai(), "default/plain", "[[say=Here.]]").content == "Here."


# --- draining --------------------------------------------------------------------------------------------------------


@pytest.fixture
def _idle(demo: DemoServer, publish: Callable[[], None]) -> Iterator[None]:  # the settings are in force
    demo.wait_until_idle()
    yield
    demo.wait_until_idle(within=30)


@pytest.mark.usefixtures("_idle")
@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
def test_run_that_drains_goes_on_without_its_client(server: GatewayServer, demo: DemoServer, stream: bool) -> None:
    cancelled, identifier = demo.stats()["cancelled"], f"drain-{stream}"
    connection = send(server, "default/patient", LONG, identifier, stream=stream)
    eventually(demo.active, 1)

    leave(connection)

    run = server.wait_for_run(request_id=identifier)
    assert (run["outcome"], run["finish_reason"], run["error_code"]) == ("completed", "stop", "")
    assert (run["completion_tokens"], run["tokens_estimated"]) == (20, False)  # all of it, as the server counted
    assert demo.stats()["cancelled"] == cancelled


@pytest.mark.usefixtures("_idle")
def test_client_that_stays_is_answered_as_ever(server: GatewayServer, ask: Ask) -> None:
    assert asked(server, ask, "default/patient", "[[words=300]]").split() == [f"word{n}" for n in range(1, 301)]


@pytest.mark.usefixtures("_idle")
def test_failure_of_a_run_that_drains_is_told_with_its_status(server: GatewayServer, set_agent: Any, ask: Ask) -> None:
    set_agent("default/tuned", on_disconnect="drain", model="status-500")

    with pytest.raises(openai.APIStatusError) as caught:
        ask(server.openai(), "default/tuned", "Hi")

    assert (caught.value.status_code, caught.value.code) == (502, "upstream_error")


@pytest.mark.usefixtures("_idle")
def test_drained_run_is_stopped_by_its_own_time_out(server: GatewayServer, set_agent: Any, demo: DemoServer) -> None:
    set_agent("default/plain", on_disconnect="drain", run_timeout=1)
    connection = send(server, "default/plain", "[[words=1000]] [[delay=0.05]]", "drain-late", stream=True)
    eventually(demo.active, 1)

    leave(connection)

    run = server.wait_for_run(request_id="drain-late")
    assert (run["outcome"], run["error_code"]) == ("failed", "run_timeout")


@pytest.mark.usefixtures("_idle")
def test_slot_of_a_limit_is_held_until_the_drained_run_has_ended(
    server: GatewayServer, publish: Callable[[], None], demo: DemoServer
) -> None:
    server.operator.put_limit(concurrent_runs=1, agents="default/patient")
    publish()
    try:
        connection = send(server, "default/patient", LONG, "drain-limit", stream=True)
        eventually(demo.active, 1)
        leave(connection)

        assert failure(server, "default/patient") == "rate_limit_exceeded"

        assert server.wait_for_run(request_id="drain-limit")["outcome"] == "completed"
        assert failure(server, "default/patient") is None
    finally:
        server.operator.delete_limits()
        publish()


@pytest.mark.usefixtures("_idle")
def test_stop_waits_for_a_run_that_drains(server: GatewayServer, demo: DemoServer) -> None:
    """The last test of this gateway."""
    connection = send(server, "default/patient", LONG, "drain-stop", stream=True)
    eventually(demo.active, 1)
    leave(connection)

    server.stop(signal.SIGTERM)

    assert [run["outcome"] for run in server.operator.runs(request_id="drain-stop")] == ["completed"]
