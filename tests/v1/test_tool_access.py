"""Rules about tools, asked through chat completions: whatever kind of tool, however deep, whoever's code runs it."""

import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.conftest import write_source
from tests.fakes.responses_upstream import TEXT
from tests.harness import GatewayServer, Template, eventually
from tests.harness.asking import Ask, Told, ask_whole
from tests.harness.scraping import samples
from tests.v1.test_responses import ResponsesServer

FIXTURES = Path(__file__).parents[1] / "fixtures" / "dropin_agents"
COPIED = ("Approval", "ApprovalNested", "AsToolNested", "HandoffPlain", "HostedMixed", "HostedSearch", "McpStdio")

TOOLS = '''
from agents import function_tool


@function_tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@function_tool
async def multiply(a: int, b: int) -> int:
    """Multiply two numbers."""
    return a * b
'''
# Inner agents call their tool whatever they are told: tool_choice is required.
DESK = '''
import asyncio
import os
import threading

from agents import Agent, ModelSettings, RunConfig, Runner, function_tool

from .tools import add, multiply

path = function_tool(os.fspath, name_override="path", strict_mode=False)


@function_tool
def secret() -> str:
    """Tell the secret."""
    return "xyzzy"


inner = Agent(name="Inner", instructions="Tell.", tools=[secret], model_settings=ModelSettings(tool_choice="required"))


@function_tool
async def by_run(question: str) -> str:
    """Ask inside."""
    return str((await Runner.run(inner, question, run_config=RunConfig(workflow_name="its own"))).final_output)


@function_tool
def by_run_sync(question: str) -> str:
    """Ask inside."""
    return str(Runner.run_sync(inner, question).final_output)


@function_tool
def by_thread(question: str) -> str:
    """Ask inside, in a thread that inherits nothing."""
    answers = []
    thread = threading.Thread(target=lambda: answers.append(asyncio.run(Runner.run(inner, question)).final_output))
    thread.start()
    thread.join()
    return answers[0]


agent = Agent(
    name="Desk", instructions="Use tools.", tools=[add, multiply, path, secret, by_run, by_run_sync, by_thread]
)
'''
WORKFLOW = '''
from agents import Agent, Runner, function_tool


@function_tool
def look() -> str:
    """Look."""
    return "It rains."


looker = Agent(name="Looker", instructions="Look.", tools=[look])


async def run_workflow(text: str) -> str:
    return str((await Runner.run(looker, text)).final_output)
'''
# By this name the demo takes the handoff for a tool: calls it though it is not offered, and quotes what it is told.
TRIAGE = """
from agents import Agent, handoff

refunds = Agent(name="Refund Agent", instructions="You are refunds.")
triage = Agent(name="Triage", instructions="Hand over.", handoffs=[handoff(refunds, tool_name_override="give_back")])
"""
TOOL_RULE, GRANT = "access.ToolRule", "access.Grant"
ADD = '[[tool=add]] [[args={"a": 2, "b": 3}]]'
REFERENCE = re.compile(r"\(reference (apr_[0-9a-f]{16})\)$")


def refused(name: str, why: str = "") -> str:
    return f"The tool '{name}' is not allowed here{why and f': {why}'}. Go on without it."


@dataclass(frozen=True)
class Caller:
    """A key of its own for each test, so that its denials can be counted."""

    id: int
    client: openai.OpenAI
    gateway: GatewayServer

    def denials(self) -> list[tuple[str, str]]:
        """What was denied to this key, in the log: action and target."""
        event = {"event": "agent.security.decision", "outcome": "denied", "key_id": self.id}
        return [(line["action"], line["target"]) for line in self.gateway.log(**event)]


@pytest.fixture(scope="module")
def responses() -> Iterator[ResponsesServer]:
    with ResponsesServer() as server:
        yield server


@pytest.fixture(scope="module")
def gateway(
    tmp_path_factory: pytest.TempPathFactory, template: Template, responses: ResponsesServer
) -> Iterator[GatewayServer]:
    folder = tmp_path_factory.mktemp("tools")
    for name in COPIED:
        shutil.copytree(FIXTURES / name, folder / "agents" / name, ignore=shutil.ignore_patterns("__pycache__"))
    write_source(folder / "agents" / "labs" / "Desk", DESK)
    write_source(folder / "agents" / "labs" / "Desk", TOOLS, name="tools.py")
    write_source(folder / "agents" / "labs" / "Flow", WORKFLOW)
    write_source(folder / "agents" / "labs" / "Triage", TRIAGE)
    server = GatewayServer(folder / "data", agents=folder / "agents", template=template)
    server.operator.put_upstream(
        "openai",
        kind="openai",
        base_url=responses.base_url,
        default_model="r-search",
        secret="sk",
        speaks_responses=True,
    )
    with server:
        yield server


def issue(gateway: GatewayServer, name: str) -> Caller:
    key = gateway.operator.issue_key(name)
    return Caller(key["id"], gateway.openai(key["credential"]), gateway)


def in_force(gateway: GatewayServer) -> None:
    """Returns when what the operator has changed so far is known to the gateway: a younger key is, with its grant."""
    client = gateway.openai(gateway.operator.issue_key("marker")["credential"])
    eventually(lambda: _sees_agents(client), True)


def _sees_agents(client: openai.OpenAI) -> bool:
    try:
        return bool(client.models.list().data)
    except openai.AuthenticationError:
        return False


@pytest.fixture
def caller(gateway: GatewayServer, request: pytest.FixtureRequest) -> Iterator[Caller]:
    yield issue(gateway, request.node.name)
    for model in ("access.ToolRule", "access.Override", "access.AccessSettings"):
        for row in gateway.operator.rows(model):
            gateway.operator.remove(model, row["id"])


Deny = Callable[..., None]


@pytest.fixture
def deny(gateway: GatewayServer, caller: Caller) -> Deny:
    """Denies the tools of these names to the caller, or what the fields of a rule say."""

    def put(*patterns: str, **fields: Any) -> None:
        for pattern in patterns:
            gateway.operator.make(TOOL_RULE, pattern=pattern, effect="deny", **(fields or {"key_id": caller.id}))
        in_force(gateway)

    return put


# --- by name, by module, for whom ------------------------------------------------------------------------------------


def test_tool_that_no_rule_is_about_is_called(caller: Caller, gateway: GatewayServer, ask: Ask) -> None:
    in_force(gateway)

    assert "The tool add returned: 5" in ask(caller.client, "labs/desk", ADD).content
    lines = caller.gateway.log(event="agent.security.decision", action="use_tool", key_id=caller.id)
    assert [(line["outcome"], line["target"]) for line in lines] == [("allowed", "labs/desk add")]


def test_denied_tool_is_told_to_the_model_and_the_run_goes_on(
    caller: Caller, deny: Deny, gateway: GatewayServer, ask: Ask
) -> None:
    before = denied_in_metrics(gateway)
    deny("a*d", key_id=caller.id, note="Use your head")

    told = ask(caller.client, "labs/desk", ADD)

    assert f"The tool add returned: {refused('add', 'Use your head')}" in told.content
    assert told.finish_reason == "stop"
    assert caller.denials() == [("use_tool", "labs/desk add")]
    assert gateway.wait_for_run(key_id=caller.id)["outcome"] == "completed"
    assert denied_in_metrics(gateway) == before + 1


def test_rule_for_one_key_leaves_others_alone(caller: Caller, deny: Deny, gateway: GatewayServer) -> None:
    other = issue(gateway, "other")
    deny("add")

    assert refused("add") in ask_whole(caller.client, "labs/desk", ADD).content
    assert "returned: 5" in ask_whole(other.client, "labs/desk", ADD).content


def test_rule_for_a_namespace_is_for_whoever_uses_its_agents(caller: Caller, deny: Deny) -> None:
    deny("add", namespace="labs")

    assert refused("add") in ask_whole(caller.client, "labs/desk", ADD).content


def test_rule_for_agents_holds_in_those_alone(caller: Caller, deny: Deny) -> None:
    deny("add", key_id=caller.id, agents="labs/f*")

    assert "returned: 5" in ask_whole(caller.client, "labs/desk", ADD).content


def test_module_of_a_drop_in_is_denied(caller: Caller, deny: Deny) -> None:
    """`multiply` lies in the same file as `add`, `secret` in another."""
    deny("agents.labs.desk.tools", by="module", key_id=caller.id)

    asked = f'{ADD} [[tool=multiply]] [[args={{"a": 2, "b": 3}}]] [[tool=secret]] [[args={{}}]]'
    told = ask_whole(caller.client, "labs/desk", asked)

    assert refused("add") in told.content
    assert refused("multiply") in told.content
    assert "xyzzy" in told.content
    assert len(caller.denials()) == 2


@pytest.mark.parametrize("pattern", ["os", "OS.*"])
def test_module_of_a_library_is_denied(caller: Caller, deny: Deny, pattern: str) -> None:
    deny(pattern, by="module", key_id=caller.id)

    told = ask_whole(caller.client, "labs/desk", '[[tool=path]] [[args={"path": "/etc"}]]')

    assert refused("path") in told.content


def test_allow_list_denies_all_else(caller: Caller, deny: Deny, gateway: GatewayServer) -> None:
    gateway.operator.make(TOOL_RULE, pattern="add", effect="allow", key_id=caller.id)
    deny("*")

    told = ask_whole(caller.client, "labs/desk", f"{ADD} [[tool=secret]] [[args={{}}]]")

    assert "The tool add returned: 5" in told.content
    assert refused("secret") in told.content


def test_override_ends_by_itself(caller: Caller, gateway: GatewayServer) -> None:
    gateway.operator.override(about="tool", pattern="add", effect="deny", key_id=caller.id, ttl=3)
    in_force(gateway)
    assert refused("add", "tests") in ask_whole(caller.client, "labs/desk", ADD).content

    eventually(lambda: "returned: 5" in ask_whole(caller.client, "labs/desk", ADD).content, True)


def test_override_allows_what_a_rule_denies(caller: Caller, deny: Deny, gateway: GatewayServer) -> None:
    gateway.operator.override(about="tool", pattern="add", effect="allow", key_id=caller.id, ttl=60)
    deny("add")

    assert "returned: 5" in ask_whole(caller.client, "labs/desk", ADD).content


# --- every kind of tool, however deep --------------------------------------------------------------------------------


@pytest.mark.parametrize(("pattern", "by"), [("add", "tool"), ("mcp.numbers", "module"), ("mcp.*", "module")])
def test_tool_of_an_mcp_server(caller: Caller, deny: Deny, pattern: str, by: str) -> None:
    deny(pattern, by=by, key_id=caller.id)

    assert refused("add") in ask_whole(caller.client, "default/mcpstdio", ADD).content
    assert caller.denials() == [("use_tool", "default/mcpstdio add")]


@pytest.mark.parametrize(("pattern", "by"), [("write_article", "tool"), ("agents.astoolnested.agent", "module")])
def test_agent_as_a_tool(caller: Caller, deny: Deny, pattern: str, by: str, ask: Ask) -> None:
    deny(pattern, by=by, key_id=caller.id)

    told = ask(caller.client, "default/astoolnested", '[[tool=write_article]] [[args={"input": "Frogs"}]]')

    assert refused("write_article") in told.content
    assert caller.denials() == [("use_tool", "default/astoolnested write_article")]


def test_tool_of_an_agent_that_is_a_tool_of_an_agent_that_is_a_tool(caller: Caller, deny: Deny, ask: Ask) -> None:
    deny("look_up")

    told = ask(caller.client, "default/astoolnested", '[[tool=write_article]] [[args={"input": "Frogs"}]]')

    assert refused("look_up") in told.content
    assert caller.denials() == [("use_tool", "default/astoolnested look_up")]


@pytest.mark.parametrize("way", ["by_run", "by_run_sync", "by_thread"])
def test_tool_of_a_run_that_a_tool_starts(caller: Caller, deny: Deny, way: str) -> None:
    deny("secret")

    told = ask_whole(caller.client, "labs/desk", f'[[tool={way}]] [[args={{"question": "Well?"}}]]')

    assert refused("secret") in told.content
    assert "xyzzy" not in told.content
    assert caller.denials() == [("use_tool", "labs/desk secret")]


def test_run_in_a_thread_of_the_modules_own_is_not_refused_what_the_caller_may(caller: Caller, deny: Deny) -> None:
    deny("secret", key_id=issue(caller.gateway, "somebody else").id)

    told = ask_whole(caller.client, "labs/desk", '[[tool=by_thread]] [[args={"question": "Well?"}]]')

    assert "xyzzy" in told.content


def test_tool_of_a_workflow(caller: Caller, deny: Deny, ask: Ask) -> None:
    deny("agents.labs.flow.*", by="module", key_id=caller.id)

    assert refused("look") in ask(caller.client, "labs/flow", "[[tool=look]]").content
    assert caller.denials() == [("use_tool", "labs/flow look")]


# --- approvals -------------------------------------------------------------------------------------------------------


def test_nobody_is_asked_to_approve_a_denied_tool(caller: Caller, deny: Deny, ask: Ask) -> None:
    deny("launch")

    told = ask(caller.client, "default/approval", '[[tool=launch]] [[args={"city": "Oslo"}]]')

    assert refused("launch") in told.content
    assert "approval" not in told.content
    assert caller.denials() == [("use_tool", "default/approval launch")]


@pytest.mark.parametrize(
    ("agent", "denied"),
    [("default/approval", "launch"), ("default/approvalnested", "launch"), ("default/approvalnested", "ask_pilot")],
)
def test_tool_that_is_denied_while_a_person_thinks_it_over_is_not_called(
    caller: Caller, deny: Deny, gateway: GatewayServer, agent: str, denied: str
) -> None:
    in_force(gateway)
    asked = '[[tool=launch]] [[args={"city": "Oslo"}]]' if agent == "default/approval" else "[[tool=ask_pilot]] launch"
    first = ask_whole(caller.client, agent, asked)
    assert REFERENCE.search(first.content), first.content
    deny(denied)

    told = said_after(caller, agent, asked, first, "approve")

    assert refused(denied) in told.content
    assert "Launched" not in told.content
    assert "your approval" not in told.content
    assert caller.denials() == [("use_tool", f"{agent} {denied}")]


def said_after(caller: Caller, agent: str, asked: str, first: Told, answer: str) -> Told:
    history = [
        {"role": "user", "content": asked},
        {"role": "assistant", "content": first.content},
        {"role": "user", "content": answer},
    ]
    return ask_whole(caller.client, agent, history)


# --- inner agents and their grants -----------------------------------------------------------------------------------


@pytest.fixture
def inner_agents_obey(gateway: GatewayServer, caller: Caller) -> None:
    gateway.operator.make(GRANT, agents="*/refund-agent", effect="deny", key_id=caller.id)
    gateway.operator.make(GRANT, agents="default/writer", effect="deny", key_id=caller.id)
    gateway.operator.make("access.AccessSettings", id=1, inner_agents_obey_grants=True)
    in_force(gateway)


@pytest.mark.usefixtures("inner_agents_obey")
def test_handoff_without_a_grant_is_not_offered_and_its_call_is_refused(caller: Caller, ask: Ask) -> None:
    told = ask(caller.client, "labs/triage", "[[tool=give_back]]")

    why = "The API key may not use the agent 'labs/refund-agent'"
    assert refused("give_back", why) in told.content
    assert caller.denials() == [("hand_over", "labs/refund-agent")]


@pytest.mark.usefixtures("inner_agents_obey")
def test_model_hands_over_to_whom_it_may(caller: Caller, ask: Ask) -> None:
    """The demo takes the handoff that is left."""
    told = ask(caller.client, "default/handoffplain", "[[tool=transfer_to_refund_agent]] Money back!")

    assert "I came here by the handoff transfer_to_billing_agent." in told.content
    lines = caller.gateway.log(event="agent.security.decision", action="hand_over", key_id=caller.id)
    assert [(line["outcome"], line["target"]) for line in lines] == [
        ("denied", "default/refund-agent"),
        ("allowed", "default/billing-agent"),
    ]


def test_handoffs_need_no_grant_unless_the_operator_says_so(caller: Caller, gateway: GatewayServer) -> None:
    gateway.operator.make(GRANT, agents="*/refund-agent", effect="deny", key_id=caller.id)
    in_force(gateway)

    told = ask_whole(caller.client, "labs/triage", "[[tool=give_back]]")

    assert "You are refunds." in told.content
    assert gateway.log(event="agent.security.decision", action="hand_over", key_id=caller.id) == []


@pytest.mark.usefixtures("inner_agents_obey")
def test_agent_as_a_tool_without_a_grant_is_refused(caller: Caller) -> None:
    told = ask_whole(caller.client, "default/astoolnested", '[[tool=write_article]] [[args={"input": "Frogs"}]]')

    assert refused("write_article", "The API key may not use the agent 'default/writer'") in told.content
    assert caller.denials() == [("hand_over", "default/writer")]


# --- tools of the model's provider -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("pattern", "by"), [("web_search", "tool"), ("hosted.WebSearchTool", "module")])
def test_hosted_tool_is_not_offered(
    caller: Caller, deny: Deny, responses: ResponsesServer, pattern: str, by: str, ask: Ask
) -> None:
    """Without the search nothing of the call needs the Responses API."""
    deny(pattern, by=by, key_id=caller.id)

    told = ask(caller.client, "default/hostedmixed", "Weather?")

    sent = responses.last()
    assert "web_search" not in str(sent["body"].get("tools"))
    assert told.content != TEXT
    assert caller.denials() == [("use_tool", "default/hostedmixed web_search")]


def denied_in_metrics(gateway: GatewayServer) -> float:
    key = gateway.operator.issue_key("Prometheus", may_administer=True)["credential"]
    eventually(lambda: bool(samples(gateway, key)), True)
    name = ("gateway_decisions_total", "use_tool", "denied", "denied")
    return samples(gateway, key).get(name, 0.0)
