"""What lines of requests carry: from start to end, in tools, threads and the SDK, and never of another run."""

import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest

from tests.conftest import write_source
from tests.harness import GatewayServer, Template, eventually
from tests.harness.asking import Ask, ask_streamed, ask_whole

TALKS = """
import asyncio, logging, sys, threading
from agents import Agent, function_tool, input_guardrail, output_guardrail, GuardrailFunctionOutput

log = logging.getLogger(__name__)
left_behind = []


@function_tool
def get_weather(city: str) -> str:
    log.warning("in a thread of asyncio")
    thread = threading.Thread(target=log.warning, args=("in a thread of its own",))
    thread.start()
    thread.join()
    logging.getLogger("openai.agents").warning("as the SDK")
    logging.basicConfig(format="LOUD %(message)s", force=True) if city == "Loud" else None
    return "Rain."


@input_guardrail
async def no_secrets(context, agent, input):
    left_behind.append(asyncio.create_task(later()))
    return GuardrailFunctionOutput(output_info=None, tripwire_triggered="secret" in str(input))


async def later():
    await asyncio.sleep(0.5)
    log.warning("left behind")


agent = Agent(name="Talks", instructions="Answer.", tools=[get_weather], input_guardrails=[no_secrets])
"""
RAISES = """
from agents import Agent, function_tool


@function_tool(failure_error_function=None)
def get_weather(city: str) -> str:
    raise ValueError("no weather, password=hunter2")


agent = Agent(name="Raises", instructions="Answer.", tools=[get_weather])
"""
HANDS = """
from agents import Agent

other = Agent(name="Other", instructions="Answer.")
agent = Agent(name="Hands", instructions="Hand over.", handoffs=[other])
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, template: Template) -> Iterator[GatewayServer]:
    folder = tmp_path_factory.mktemp("log-lines")
    for name, source in {"Talks": TALKS, "Raises": RAISES, "Hands": HANDS}.items():
        write_source(folder / "agents" / name, source)
    levels = "apps.observability=DEBUG,apps.execution.guardrails=DEBUG"
    settings = {"GATEWAY_LOG_LEVELS": levels, "GATEWAY_LOG_CONTENTS": "true"}
    with GatewayServer(folder / "data", agents=folder / "agents", template=template, **settings) as server:
        yield server


@pytest.fixture(scope="module")
def told(server: GatewayServer) -> Callable[..., list[dict[str, Any]]]:
    """The lines of a request, from a question that is asked with its id."""

    def ask(ask: Ask, model: str, text: str, identifier: str) -> list[dict[str, Any]]:
        headers = {"x-request-id": identifier}
        with contextlib.suppress(openai.APIError):
            ask(server.openai(), model, text, extra_headers=headers)
        server.wait_for_log(event="run_finished", request_id=identifier)
        return server.log(request_id=identifier)

    return ask


CALLS = '[[tool=get_weather]] [[args={"city": "Rome"}]] agw_key_in_a_prompt_0123456'


@pytest.mark.parametrize("ask", [ask_whole, ask_streamed])
def test_every_line_of_a_request_carries_what_applies(
    server: GatewayServer, told: Callable[..., list[dict[str, Any]]], ask: Ask
) -> None:
    lines = told(ask, "default/talks", CALLS, f"lines-{ask.__name__}")

    events = [line["event"] for line in lines]
    wanted = [
        "request_started", "agent.security.decision", "sdk_agent.start", "in a thread of asyncio", "as the SDK",
        "tool_call_finished", "guardrail_passed", "sdk_agent.success", "run_finished",
    ]  # fmt: skip
    assert [one for one in events if one in wanted and one != "agent.security.decision"] == wanted[:1] + wanted[2:]
    (run,) = server.log(event="run_finished", request_id=f"lines-{ask.__name__}")
    of_run = [line for line in lines if line["event"] in wanted[2:]]
    shared = {"run_id": run["run_id"], "agent": "default/talks", "key_id": run["key_id"]}
    assert [line["event"] for line in of_run if not shared.items() <= line.items()] == []
    assert {line["module_path"] for line in of_run} == {str(server.agents / "Talks" / "agent.py")}
    stages = {line["event"]: line["stage"] for line in lines}
    assert (stages["request_started"], stages["agent.security.decision"]) == ("authenticate", "authorise")
    assert (stages["sdk_agent.start"], stages["in a thread of asyncio"]) == ("execute", "execute")
    (tool,) = [line for line in lines if line["event"] == "in a thread of asyncio"]
    assert (tool["upstream"], tool["model"], tool["level"]) == ("llm", "demo", "warning")
    assert isinstance(run["key_id"], int)
    assert server.key not in "\n".join(server.errors)


def test_thread_of_its_own_says_whose_module_it_is(
    server: GatewayServer, told: Callable[..., list[dict[str, Any]]]
) -> None:
    told(ask_whole, "default/talks", CALLS, "lines-thread")

    line = server.wait_for_log(event="in a thread of its own")
    assert (line["agent"], line["module_path"]) == ("default/talks", str(server.agents / "Talks" / "agent.py"))
    assert "run_id" not in line


def test_task_that_a_run_left_behind_is_not_told_as_the_run(
    server: GatewayServer, told: Callable[..., list[dict[str, Any]]]
) -> None:
    told(ask_whole, "default/talks", "Hi", "lines-left")

    line = server.wait_for_log(event="left behind", request_id="lines-left")
    assert {"run_id", "stage", "upstream", "model"} & line.keys() == set()
    assert line["agent"] == "default/talks"  # by its logger


def test_handoff_and_tripped_guardrail_have_their_lines(
    server: GatewayServer, told: Callable[..., list[dict[str, Any]]]
) -> None:
    handed = told(ask_whole, "default/hands", "[[tool=transfer_to_other]]", "lines-handoff")
    tripped = told(ask_whole, "default/talks", "a secret", "lines-tripped")

    (handoff,) = [line for line in handed if line["event"] == "handoff_made"]
    (guardrail,) = [line for line in tripped if line["event"] == "guardrail_tripped"]
    (success,) = [line for line in tripped if line["event"] == "sdk_agent.success"]
    assert (handoff["source"], handoff["target"]) == ("Hands", "Other")
    assert (guardrail["guardrail"], guardrail["kind"], success["refused"]) == ("no_secrets", "input", True)


def test_contents_are_told_where_that_is_on_and_masked(
    server: GatewayServer, told: Callable[..., list[dict[str, Any]]]
) -> None:
    lines = told(ask_streamed, "default/talks", CALLS, "lines-contents")

    (contents,) = [line for line in lines if line["event"] == "run_contents"]
    (tool,) = [line for line in lines if line["event"] == "tool_contents"]
    assert "get_weather" in contents["input"]
    assert (tool["tool"], json.loads(tool["input"]), tool["output"]) == ("get_weather", {"city": "Rome"}, "Rain.")
    assert "agw_key_in_a_prompt" not in "\n".join(server.errors)


def test_contents_are_told_nowhere_else(gateway: GatewayServer) -> None:
    headers = {"x-request-id": "lines-quiet"}
    ask_whole(gateway.openai(), "default/plain", "[[say=word-of-an-answer]] word-of-a-prompt", extra_headers=headers)

    gateway.wait_for_log(event="run_finished", request_id="lines-quiet")
    assert "word-of-a" not in "\n".join(gateway.errors)


@pytest.mark.parametrize("ask", [ask_whole, ask_streamed])
def test_failed_run_is_told_and_kept_with_remedy_and_traceback(
    server: GatewayServer, told: Callable[..., list[dict[str, Any]]], ask: Ask
) -> None:
    identifier = f"lines-failed-{ask.__name__}"
    lines = told(ask, "default/raises", CALLS, identifier)

    (failure,) = [line for line in lines if line["event"] == "sdk_agent.failure"]
    assert (failure["kind"], failure["stage"], failure["upstream"]) == ("tool_error", "execute", "llm")
    row: dict[str, Any] = {}

    def is_kept() -> bool:
        rows = server.operator.rows("observability.ErrorEvent", subject="default/raises", request_id=identifier)
        row.update(*rows)
        return bool(rows)

    eventually(is_kept, True)
    assert (row["stage"], row["code"], row["facts"]["upstream"]) == ("execute", "tool_error", "llm")
    assert row["remedy"].startswith("Mend the tool")
    assert ("ValueError: no weather, password=•••" in row["traceback"], "hunter2" in str(row)) == (True, False)


def test_request_ids_that_are_none_are_not_told(server: GatewayServer) -> None:
    """Control characters do not get past the HTTP parser."""
    assert server.request("GET", "/v1/models", headers={"x-request-id": "a\x1b[2J"}).status == 400

    answer = server.request("GET", "/v1/models", headers={"x-request-id": 'a "b", \xff'})

    assert answer.headers["x-request-id"].startswith("req_")
    server.wait_for_log(event="request_finished", request_id=answer.headers["x-request-id"])


def test_strangers_leave_few_lines(server: GatewayServer) -> None:
    for number in range(40):
        server.request("GET", f"/no/such/page-{number}")
        server.request("GET", "/v1", headers={"host": f"evil-{number}.example"})

    server.wait_for_log(event="request_finished", status=404)
    assert len([line for line in server.errors if "page-" in line and '"debug"' not in line]) <= 10
    assert len([line for line in server.errors if "evil-" in line]) <= 10


def test_own_lines_survive_a_tool_that_sets_up_logging(
    server: GatewayServer, told: Callable[..., list[dict[str, Any]]]
) -> None:
    """The last one here: Django's and the SDK's lines are the module's from then on."""
    text = '[[tool=get_weather]] [[args={"city": "Loud"}]]'

    lines = [told(ask_whole, "default/talks", text, f"lines-loud-{number}") for number in range(2)]

    assert [len([one for one in found if one["event"] == "tool_call_finished"]) for found in lines] == [1, 1]
