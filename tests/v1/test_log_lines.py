"""What lines of requests carry: from start to end, in tools, threads and the SDK, and never of another run."""

import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest

from tests.conftest import write_agent, write_source
from tests.harness import GatewayServer, Template, eventually
from tests.harness.asking import Ask, ask_streamed, ask_whole

TALKS = """
import asyncio, logging, sys, threading
from agents import Agent, function_tool, input_guardrail, output_guardrail, GuardrailFunctionOutput

log = logging.getLogger(__name__)
logging.getLogger("some.library").warning("at import")
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
    for name, source in {"Talks": TALKS, "Raises": RAISES, "Hands": HANDS, "Broken": "import nothing_there"}.items():
        write_source(folder / "agents" / name, source)
    write_agent(folder / "agents" / "Cut", model="faulty/cut")
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


def test_what_is_logged_at_import_says_whose_import_it_is(server: GatewayServer) -> None:
    expected = {"agent": "default/talks", "module_path": str(server.agents / "Talks" / "agent.py"), "stage": "discover"}

    lines = [server.wait_for_log(event="at import"), server.wait_for_log(event="agent_loaded", agent="default/talks")]

    assert [expected.items() <= line.items() for line in lines] == [True, True]


@pytest.mark.parametrize(
    ("body", "status", "stage", "agent"),
    [
        ({"model": "default/nobody"}, 404, "resolve", None),
        ({"model": "default/broken"}, 503, "resolve", "default/broken"),
        ({"model": "default/talks", "n": 2}, 400, "resolve", "default/talks"),
        ({"model": 7}, 400, "resolve", None),
    ],
)
def test_refused_request_says_how_far_it_came(
    server: GatewayServer, body: dict[str, Any], status: int, stage: str, agent: str | None
) -> None:
    trace = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    asked = json.dumps({"messages": [{"role": "user", "content": "Hi"}], **body}).encode()

    answer = server.with_key("POST", "/v1/chat/completions", body=asked, traceparent=trace)

    line = server.wait_for_log(event="request_finished", request_id=answer.headers["x-request-id"])
    told = (answer.status, line["stage"], line.get("agent"), line["trace_id"])
    assert told == (status, stage, agent, "a" * 32)


def test_denied_requests_say_so_by_both_doors(server: GatewayServer) -> None:
    """A key that may do nothing with this agent, and nothing at the operators' API."""
    key = server.operator.issue_key("Narrow", agents=["default/hands"])["credential"]
    headers = {"x-api-key": key, "content-type": "application/json"}
    body = json.dumps({"model": "default/talks", "messages": [{"role": "user", "content": "Hi"}]}).encode()
    eventually(lambda: server.request("GET", "/v1/models", headers=headers).status, 200)

    answers = [
        server.request("POST", "/v1/chat/completions", headers=headers, body=body),
        server.request("GET", "/admin/agents", headers=headers),
    ]

    assert [one.status for one in answers] == [403, 403]
    for answer, agent in zip(answers, ("default/talks", None), strict=True):
        lines = [server.wait_for_log(event=event, request_id=answer.headers["x-request-id"])
                 for event in ("agent.security.decision", "request_finished")]  # fmt: skip
        assert [(line["stage"], line.get("agent")) for line in lines] == [("authorise", agent)] * 2


def test_answer_that_breaks_off_failed_in_the_stream(
    server: GatewayServer, told: Callable[..., list[dict[str, Any]]]
) -> None:
    lines = told(ask_streamed, "default/cut", "Hi", "lines-cut")

    (failure,) = [line for line in lines if line["event"] == "sdk_agent.failure"]
    assert (failure["kind"], failure["stage"]) == ("upstream_cut", "stream")
    rows = eventually_rows(server, subject="default/cut", request_id="lines-cut")
    assert [(row["stage"], row["code"]) for row in rows] == [("stream", "upstream_cut")]


def eventually_rows(server: GatewayServer, **matching: str) -> list[dict[str, Any]]:
    """Of Errors, once there are any."""
    rows: list[dict[str, Any]] = []

    def are_there() -> bool:
        rows[:] = server.operator.rows("observability.ErrorEvent", **matching)
        return bool(rows)

    eventually(are_there, True)
    return rows


def test_change_of_the_configuration_is_told_with_who_made_it_and_no_values(server: GatewayServer) -> None:
    operator = server.operator.issue_key("Operator", may_administer=True)
    headers = {"x-api-key": operator["credential"], "content-type": "application/json"}
    eventually(lambda: server.request("GET", "/admin/agents", headers=headers).status, 200)

    answer = server.request("POST", "/admin/keys", headers=headers, body=b'{"name": "word-of-a-name"}')

    assert answer.status == 201
    line = server.wait_for_log(
        event="configuration_written", table="access.apikey", request_id=answer.headers["x-request-id"]
    )
    assert (line["action"], line["key_id"], line["stage"], line["address"]) == (
        "create", operator["id"], "execute", "127.0.0.1",
    )  # fmt: skip
    server.wait_for_log(event="configuration_changed")
    assert "word-of-a-name" not in "\n".join(server.errors)


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
    (row,) = eventually_rows(server, subject="default/raises", request_id=identifier)
    assert (row["stage"], row["code"], row["facts"]["upstream"]) == ("execute", "tool_error", "llm")
    assert row["remedy"].startswith("Mend the tool")
    assert ("ValueError: no weather, password=•••" in row["traceback"], "hunter2" in str(row)) == (True, False)


def test_request_ids_that_are_none_are_not_told(server: GatewayServer) -> None:
    """Control characters do not get past the HTTP parser."""
    assert server.request("GET", "/v1/models", headers={"x-request-id": "a\x1b[2J"}).status == 400

    headers = {"x-request-id": 'a "b", \xff', "x-api-key": server.key}  # of strangers few lines are told
    answer = server.request("GET", "/v1/models", headers=headers)

    assert answer.headers["x-request-id"].startswith("req_")
    server.wait_for_log(event="request_finished", request_id=answer.headers["x-request-id"])


def test_strangers_leave_few_lines(server: GatewayServer) -> None:
    for number in range(40):
        server.request("GET", f"/no/such/page-{number}")
        server.request("GET", "/v1", headers={"host": f"evil-{number}.example"})

    server.wait_for_log(event="request_finished", status=404)
    assert len([line for line in server.errors if "page-" in line and '"debug"' not in line]) <= 10
    assert len([line for line in server.errors if "evil-" in line]) <= 10


def test_key_that_is_refused_all_the_time_leaves_few_lines(server: GatewayServer) -> None:
    """Names that do not exist, and denials; both beyond what is told one by one."""
    key = server.operator.issue_key("Refused", agents=["default/hands"])
    headers = {"x-api-key": key["credential"], "content-type": "application/json"}
    eventually(lambda: server.request("GET", "/v1/models", headers=headers).status, 200)
    many = 250

    for model, status in (("default/nobody-{}", 404), ("default/talks", 403)):
        for number in range(many):
            asked = {"model": model.format(number), "messages": [{"role": "user", "content": "Hi"}]}
            answer = server.request("POST", "/v1/chat/completions", headers=headers, body=json.dumps(asked).encode())
            assert answer.status == status

    lines = server.log(key_id=key["id"], event="request_finished")
    counts = [len([line for line in lines if line["status"] == status]) for status in (404, 403)]
    denials = server.log(key_id=key["id"], event="agent.security.decision", outcome="denied")
    assert [100 <= count < many for count in (*counts, len(denials))] == [True] * 3
    rows = eventually_rows(server, code="no_grant", subject="Refused")
    eventually(
        lambda: server.operator.rows("observability.ErrorEvent", code="no_grant", subject="Refused")[0]["count"], many
    )
    assert len(rows) == 1


def test_own_lines_survive_a_tool_that_sets_up_logging(
    server: GatewayServer, told: Callable[..., list[dict[str, Any]]]
) -> None:
    """The last one here: Django's and the SDK's lines are the module's from then on."""
    text = '[[tool=get_weather]] [[args={"city": "Loud"}]]'

    lines = [told(ask_whole, "default/talks", text, f"lines-loud-{number}") for number in range(2)]

    assert [len([one for one in found if one["event"] == "tool_call_finished"]) for found in lines] == [1, 1]
