"""What is recorded of a tool call, whatever kind of tool it is and whoever makes the call."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from agents import Agent, CustomTool, FunctionTool, RunConfig, Runner, ShellTool, WebSearchTool, function_tool
from agents.exceptions import UserError
from openai.types.responses import ResponseFunctionShellToolCall, ResponseFunctionWebSearch
from openai.types.responses.response_custom_tool_call import ResponseCustomToolCall
from openai.types.responses.response_output_item import McpCall
from structlog.testing import capture_logs

from apps.access.models import ToolRule
from apps.access.policy_in_force import policy_in_force
from apps.access.subject import Key, Subject
from apps.core import live_config
from apps.execution import callers, governed_tools
from apps.execution.tool_calls import call_tool
from apps.tools import in_force, lent, models
from apps.tools.sdk import use_gateway_tool
from tests.execution.test_sdk_contract import ScriptedModel, text, tool_call

DAYS = '{"first": "2026-11-25", "second": "2026-12-24"}'
SCHEMA = {"type": "object", "properties": {"first": {"type": "string"}, "second": {"type": "string"}}}
HERE = __name__
LOCAL = "gateway.local.apps.tools.examples"


@pytest.fixture(autouse=True)
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """For this test alone."""
    for seam in governed_tools.SEAMS:
        owner, function = seam.find()
        monkeypatch.setattr(owner, seam.name, function)
    monkeypatch.setattr(lent, "_call", lent._call)
    governed_tools.install()


@pytest.fixture(autouse=True)
def _configured(db: None) -> Iterator[None]:
    in_force_now()
    yield
    live_config.forget()


def in_force_now() -> None:
    """Read here, where a database may be."""
    live_config.forget()
    policy_in_force()


def put(**fields: Any) -> None:
    """The tool `days`, a Python function."""
    row = models.Tool.objects.filter(name="days").first() or models.Tool(name="days", kind="local")
    row.function, row.parameters = "apps.tools.examples.days_between", SCHEMA
    for name, value in fields.items():
        setattr(row, name, value)
    row.save()
    in_force_now()


Recorded = list[tuple[Any, ...]]


def told(lines: list[Any]) -> Recorded:
    names = ("source", "tool", "module", "outcome")
    calls = [line for line in lines if line["event"] == "tool_call_finished"]
    for line in calls:
        assert (line["agent"], line["key_id"], line["run_id"]) == ("labs/desk", 7, "chatcmpl-1")
    return [tuple(line[name] for name in names) for line in calls]


def run(agent: Agent[Any], then: Callable[[], None] = lambda: None) -> Recorded:
    """What is recorded of the calls of a run, which is for the key 7; `then` is done while it goes on."""

    async def asked() -> None:
        with callers.working_for(Subject(Key(7, "seven")), "labs/desk", "_dropin.labs__desk__g0", "chatcmpl-1"):
            await Runner.run(agent, "Hi", run_config=RunConfig(tracing_disabled=True))

    with capture_logs() as lines, contextlib.suppress(UserError):
        asyncio.run(asked())
    return told(lines)


def agent_with(*tools: Any, script: tuple[Any, ...], **options: Any) -> Agent[Any]:
    return Agent(name="A", model=ScriptedModel(*script, text("done")), tools=list(tools), **options)


# --- the SDK's -------------------------------------------------------------------------------------------------------


@function_tool
def dig() -> str:
    """Dig."""
    return "gold"


@function_tool
def fail() -> str:
    """Fail."""
    raise ValueError


@function_tool(failure_error_function=None)
def fail_hard() -> str:
    """Fail, and end the run."""
    raise ValueError


@function_tool(timeout=0.01)
async def wait() -> str:
    """Wait."""
    await asyncio.sleep(60)
    return ""


@function_tool(failure_error_function=lambda *_: "no gold")
def explain() -> str:
    """Fail in words of its own."""
    raise ValueError


@pytest.mark.parametrize(
    ("tool", "outcome"), [(dig, "ok"), (fail, "error"), (fail_hard, "error"), (wait, "error"), (explain, "ok")]
)
def test_function_tool_is_recorded_with_what_came_of_it(tool: FunctionTool, outcome: str) -> None:
    assert run(agent_with(tool, script=(tool_call(tool.name),))) == [("sdk-native", tool.name, HERE, outcome)]


def test_function_that_the_sdk_calls_is_not_changed() -> None:
    before = vars(dig).copy()

    run(agent_with(dig, script=(tool_call("dig"),)))

    assert vars(dig) == before


def test_denied_call_is_recorded_once_and_not_timed() -> None:
    ToolRule.objects.create(pattern="dig", effect="deny")
    in_force_now()

    assert run(agent_with(dig, script=(tool_call("dig"),))) == [("sdk-native", "dig", HERE, "denied")]


def test_agent_as_a_tool_is_recorded_as_the_calls_inside_it_are() -> None:
    inner = agent_with(dig, script=(tool_call("dig"),))

    recorded = run(agent_with(inner.as_tool("ask", "Asks."), script=(tool_call("ask", '{"input": "Hi"}'),)))

    assert recorded == [
        ("sdk-native", "dig", HERE, "ok"),
        ("sdk-native", "ask", "agents.labs.desk", "ok"),
    ]


def test_call_that_waits_for_a_person_is_not_recorded_yet() -> None:
    @function_tool(needs_approval=True)
    def launch() -> str:
        return "up"

    assert run(agent_with(launch, script=(tool_call("launch"),))) == []


async def spell(context: Any, text: str) -> str:
    return text


SHELL = ResponseFunctionShellToolCall.model_validate(
    {"id": "sh", "call_id": "c", "type": "shell_call", "status": "completed", "action": {"commands": ["ls"]}}
)
CUSTOM = ResponseCustomToolCall(call_id="c", input="x", name="spell", type="custom_tool_call")


@pytest.mark.parametrize(
    ("tool", "call", "name", "module"),
    [
        (ShellTool(executor=lambda _: "a file"), SHELL, "shell", "hosted.ShellTool"),
        (CustomTool(name="spell", description="", on_invoke_tool=spell), CUSTOM, "spell", HERE),
    ],
)
def test_tool_that_the_sdk_runs_is_recorded(tool: Any, call: Any, name: str, module: str) -> None:
    assert run(agent_with(tool, script=(call,))) == [("sdk-native", name, module, "ok")]


SEARCH = ResponseFunctionWebSearch.model_validate(
    {"id": "w", "type": "web_search_call", "status": "completed", "action": {"type": "search", "query": "x"}}
)
MCP = McpCall(id="m", arguments="{}", name="star", server_label="github", type="mcp_call", status="failed")


def test_tool_that_the_models_provider_ran_is_recorded_without_a_duration() -> None:
    agent = Agent(name="A", model=SeveralAtOnce(SEARCH, MCP, text("done")), tools=[WebSearchTool()])
    assert run(agent) == [
        ("sdk-native", "web_search", "hosted.WebSearchTool", "ok"),
        ("mcp", "star", "hosted.HostedMCPTool.github", "error"),
    ]


class SeveralAtOnce(ScriptedModel):
    async def get_response(self, *args: Any, **kwargs: Any) -> Any:
        response = await super().get_response(*args, **kwargs)
        response.output.extend(self._script)
        return response


# --- the gateway's ---------------------------------------------------------------------------------------------------


def test_tool_of_the_gateway_is_recorded_once() -> None:
    put()
    agent = agent_with(use_gateway_tool("days"), script=(tool_call("days", DAYS), tool_call("days", "{}", "call_2")))

    assert run(agent) == [
        ("gateway-local", "days", LOCAL, "ok"),
        ("gateway-local", "days", LOCAL, "invalid_arguments"),
    ]


def test_model_is_offered_the_tool_as_it_is_now() -> None:
    put(description="Before.")
    tool = use_gateway_tool("days")
    put(description="After.")

    run(agent_with(tool, script=()))

    assert tool.description == "After."


def test_run_may_not_call_it_more_often_than_its_bound_and_its_inner_agents_count() -> None:
    put(max_calls_per_run=2)
    tool = use_gateway_tool("days")
    inner = agent_with(tool, script=(tool_call("days", DAYS),))
    asking = (tool_call("ask", '{"input": "Hi"}'), *(tool_call("days", DAYS, f"call_{n}") for n in (2, 3)))

    recorded = run(agent_with(inner.as_tool("ask", "Asks."), tool, script=asking))

    assert [one[3] for one in recorded if one[1] == "days"] == ["ok", "ok", "limit"]


def test_copy_of_another_name_is_governed_and_recorded_by_the_gateways() -> None:
    put()
    ToolRule.objects.create(pattern="days", effect="deny")
    in_force_now()
    copied = replace(use_gateway_tool("days"), name="count")

    assert run(agent_with(copied, script=(tool_call("count", DAYS),))) == [("gateway-local", "days", LOCAL, "denied")]


def test_nobody_is_asked_to_approve_a_call_that_cannot_be_made() -> None:
    put(needs_approval=True, max_calls_per_run=0)

    assert run(agent_with(use_gateway_tool("days"), script=(tool_call("days", DAYS),))) == [
        ("gateway-local", "days", LOCAL, "limit")
    ]

    tool = use_gateway_tool("days")
    put(enabled=False)
    assert run(agent_with(tool, script=(tool_call("days", DAYS),))) == [("gateway-local", "days", LOCAL, "missing")]


def declared(*arguments: str) -> tuple[list[str], Recorded]:
    """What a declared agent is told of its calls in one run, and what is recorded."""
    tool = in_force.find("days")

    async def called() -> list[str]:
        with callers.working_for(Subject(Key(7, "seven")), "labs/desk", "", "chatcmpl-1"):
            return [(await call_tool(tool, one)).text for one in arguments]

    with capture_logs() as lines:
        texts = asyncio.run(called())
    return texts, told(lines)


def test_declared_agents_call_goes_the_same_way() -> None:
    put(max_calls_per_run=1)

    assert declared(DAYS, DAYS) == (
        ["29", "The tool 'days' may be called once in a run, and has been. Go on without it."],
        [("gateway-local", "days", LOCAL, "ok"), ("gateway-local", "days", LOCAL, "limit")],
    )


def test_declared_agents_call_is_refused_by_a_rule() -> None:
    ToolRule.objects.create(pattern="gateway.local.*", by="module", effect="deny", note="Count yourself")
    put()

    assert declared(DAYS) == (
        ["The tool 'days' is not allowed here: Count yourself. Go on without it."],
        [("gateway-local", "days", LOCAL, "denied")],
    )


def test_cached_answer_is_recorded_as_that() -> None:
    put(cache_seconds=60)

    texts, recorded = declared(DAYS, DAYS)

    assert (texts, [one[3] for one in recorded]) == (["29", "29"], ["ok", "cached"])
