"""Tools of the gateway in drop-ins, through chat completions: called, governed, counted, missed and found again."""

import json
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.conftest import write_source
from tests.harness import GatewayServer, Template, eventually
from tests.harness.asking import Ask, ask_whole
from tests.harness.scraping import samples
from tests.v1.test_tool_access import REFERENCE, Caller, in_force, issue, refused

FIXTURES = Path(__file__).parents[1] / "fixtures" / "dropin_agents"
COPIED = ("GatewayTools", "GatewayToolsWorkflow", "McpStdio")
TOOL = "tools.Tool"
AGENT, FLOW = "default/gatewaytools", "default/gatewaytoolsworkflow"

ORDER = '[[tool=order]] [[args={"id": "7"}]]'
FOUND = 'The tool order returned: {"id": "7", "state": "sent"}'
DAYS = '[[tool=days_between]] [[args={"first": "2026-11-25", "second": "2026-12-24"}]]'
SEARCHER = """
from agents import Agent

from apps.tools.sdk import use_gateway_tool

agent = Agent(
    name="Searcher",
    tools=[use_gateway_tool("{tool}")],
)
"""
ID_SCHEMA = {
    "type": "object",
    "properties": {"id": {"type": "string"}},
    "required": ["id"],
    "additionalProperties": False,
}
DAYS_SCHEMA = {
    "type": "object",
    "properties": {"first": {"type": "string"}, "second": {"type": "string"}},
    "required": ["first", "second"],
}


class Shop(ThreadingHTTPServer):
    """Knows of every order that it was sent, if one shows its token. Remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _ShopHandler)
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _ShopHandler(BaseHTTPRequestHandler):
    server: Shop

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        is_known = self.headers["x-token"] == "the shop's secret"
        body = json.dumps({"id": self.path.rpartition("/")[2], "state": "sent"} if is_known else {"error": "who?"})
        self.send_response(200 if is_known else 401)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def shop() -> Iterator[Shop]:
    with Shop() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, template: Template, shop: Shop) -> Iterator[GatewayServer]:
    folder = tmp_path_factory.mktemp("gateway_tools")
    for name in COPIED:
        shutil.copytree(FIXTURES / name, folder / "agents" / name, ignore=shutil.ignore_patterns("__pycache__"))
    server = GatewayServer(folder / "data", agents=folder / "agents", template=template)
    make_order(server, shop)
    server.operator.make(
        TOOL, name="days_between", kind="local", function="apps.tools.examples.days_between", parameters=DAYS_SCHEMA
    )
    with server:
        yield server


def make_order(server: GatewayServer, shop: Shop, **fields: Any) -> int:
    made: int = server.operator.make(
        TOOL,
        name="order",
        kind="http",
        description="Look an order up.",
        url=f"{shop.url}/orders/{{id}}",
        parameters=ID_SCHEMA,
        secret_headers={"X-Token": "the shop's secret"},
        allow_private_hosts=True,
        **fields,
    )
    return made


@pytest.fixture
def caller(gateway: GatewayServer, request: pytest.FixtureRequest) -> Iterator[Caller]:
    """A key of its own for each test, so that its calls can be told from others'."""
    issued = issue(gateway, request.node.name)
    in_force(gateway)
    yield issued
    for row in gateway.operator.rows("access.ToolRule"):
        gateway.operator.remove("access.ToolRule", row["id"])
    change(gateway, "order", needs_approval=False, max_calls_per_run=None)


def change(gateway: GatewayServer, name: str, **fields: Any) -> None:
    (row,) = gateway.operator.rows(TOOL, name=name)
    gateway.operator.change(TOOL, row["id"], **fields)
    in_force(gateway)


def calls(caller: Caller) -> list[dict[str, Any]]:
    """What the log says of the tool calls for this key, without what differs from run to run."""
    lines = caller.gateway.log(event="tool_call_finished", key_id=caller.id)
    told = ("source", "tool", "module", "agent", "outcome")
    return [{name: line[name] for name in told} for line in lines]


# --- calls -----------------------------------------------------------------------------------------------------------


def test_http_tool_is_called_with_its_secret_and_the_call_is_recorded(caller: Caller, ask: Ask, shop: Shop) -> None:
    before = len(shop.asked)

    told = ask(caller.client, AGENT, ORDER)

    assert FOUND in told.content
    assert shop.asked[before:] == ["/orders/7"]
    (line,) = caller.gateway.log(event="tool_call_finished", key_id=caller.id)
    run = caller.gateway.wait_for_run(key_id=caller.id)
    assert {name: line[name] for name in ("source", "tool", "module", "agent", "run_id", "outcome")} == {
        "source": "gateway-http",
        "tool": "order",
        "module": "gateway.http",
        "agent": AGENT,
        "run_id": run["id"],
        "outcome": "ok",
    }
    assert line["duration_ms"] > 0
    assert "secret" not in json.dumps(line)


def test_python_function_is_called(caller: Caller) -> None:
    assert "The tool days_between returned: 29" in ask_whole(caller.client, AGENT, DAYS).content
    module = "gateway.local.apps.tools.examples"
    expected = {"source": "gateway-local", "tool": "days_between", "module": module, "agent": AGENT, "outcome": "ok"}
    assert calls(caller) == [expected]


@pytest.mark.parametrize(
    ("agent", "asked"),
    [(AGENT, '[[tool=ask_clerk]] [[args={"input": "7"}]]'), (FLOW, ORDER)],
    ids=["nested", "workflow"],
)
def test_agents_inside_call_it_for_the_agent_that_serves(caller: Caller, agent: str, asked: str) -> None:
    ask_whole(caller.client, agent, asked)

    of_gateway = [line for line in calls(caller) if line["source"] == "gateway-http"]
    expected = {"source": "gateway-http", "tool": "order", "module": "gateway.http", "agent": agent, "outcome": "ok"}
    assert of_gateway == [expected]


def test_arguments_that_do_not_fit_are_told_to_the_model_and_recorded(caller: Caller, shop: Shop) -> None:
    before = len(shop.asked)

    told = ask_whole(caller.client, AGENT, "[[tool=order]] [[args={}]]")

    assert "The tool order returned: The tool 'order' was not called:" in told.content
    assert [line["outcome"] for line in calls(caller)] == ["invalid_arguments"]
    assert shop.asked[before:] == []


# --- rules and bounds ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("pattern", "by"), [("order", "tool"), ("gateway.http*", "module")])
@pytest.mark.parametrize("agent", [AGENT, FLOW])
def test_rule_denies_it_by_name_and_by_module(
    caller: Caller, gateway: GatewayServer, shop: Shop, agent: str, pattern: str, by: str
) -> None:
    before = len(shop.asked)
    gateway.operator.make("access.ToolRule", pattern=pattern, by=by, effect="deny", key_id=caller.id)
    in_force(gateway)

    told = ask_whole(caller.client, agent, ORDER)

    assert f"The tool order returned: {refused('order')}" in told.content
    assert caller.denials() == [("use_tool", f"{agent} order")]
    assert [(line["source"], line["outcome"]) for line in calls(caller)] == [("gateway-http", "denied")]
    assert shop.asked[before:] == []


def test_run_calls_it_as_often_as_it_may_its_inner_agents_included(
    caller: Caller, gateway: GatewayServer, ask: Ask, shop: Shop
) -> None:
    change(gateway, "order", max_calls_per_run=2)
    before = len(shop.asked)

    told = ask(caller.client, AGENT, f'{ORDER} {ORDER} [[tool=ask_clerk]] [[args={{"input": "7"}}]]')

    assert "may be called 2 times in a run, and has been. Go on without it." in told.content
    assert sorted(line["outcome"] for line in calls(caller) if line["tool"] == "order") == ["limit", "ok", "ok"]
    assert len(shop.asked[before:]) == 2
    assert FOUND in ask(caller.client, AGENT, ORDER).content  # another run


def test_person_approves_what_needs_it_since_it_was_loaded(caller: Caller, gateway: GatewayServer, shop: Shop) -> None:
    change(gateway, "order", needs_approval=True)
    before = len(shop.asked)
    history: list[dict[str, str]] = [{"role": "user", "content": ORDER}]

    wanted = ask_whole(caller.client, AGENT, history).content

    assert REFERENCE.search(wanted)
    assert (shop.asked[before:], calls(caller)) == ([], [])

    history += [{"role": "assistant", "content": wanted}, {"role": "user", "content": "approve"}]
    assert FOUND in ask_whole(caller.client, AGENT, history).content
    assert [line["outcome"] for line in calls(caller)] == ["ok"]


# --- missing ---------------------------------------------------------------------------------------------------------


def problems(gateway: GatewayServer, agent_id: str) -> list[tuple[str, str, int | None]]:
    rows = gateway.operator.rows("catalog.Diagnostic", agent_id=agent_id, code="tool_missing")
    return [(row["severity"], row["reason"], row["line"]) for row in rows]


def is_served(client: openai.OpenAI, model: str) -> bool:
    return model in [one.id for one in client.models.list()]


def test_module_that_asks_for_a_missing_tool_is_loaded_when_there_is_one(
    caller: Caller, gateway: GatewayServer
) -> None:
    write_source(gateway.agents / "Searcher", SEARCHER.format(tool="oder"))
    reason = "The gateway has no tool 'oder'. Did you mean 'order'?"
    eventually(lambda: problems(gateway, "default/searcher"), [("error", reason, 8)], within=10)
    assert gateway.operator.agent_state("default/searcher") == "broken"

    row = gateway.operator.make(TOOL, name="oder", url="https://example.com/")

    eventually(lambda: gateway.operator.agent_state("default/searcher"), "live", within=10)
    assert problems(gateway, "default/searcher") == []

    gateway.operator.remove(TOOL, row)
    gone = (
        "It uses the tool oder of the gateway, which is deleted or switched off: a model that calls it is told to go on"
    )
    eventually(lambda: problems(gateway, "default/searcher"), [("warning", f"{gone} without.", None)], within=10)
    assert gateway.operator.agent_state("default/searcher") == "live"


def test_tool_that_is_taken_away_is_told_to_the_model_and_a_diagnostic_until_it_is_back(
    caller: Caller, gateway: GatewayServer, ask: Ask, shop: Shop
) -> None:
    (row,) = gateway.operator.rows(TOOL, name="order")
    gateway.operator.remove(TOOL, row["id"])
    in_force(gateway)
    try:
        told = ask(caller.client, AGENT, ORDER)
        assert "The tool order returned: The tool 'order' is not available now. Go on without it." in told.content
        assert [(line["source"], line["outcome"]) for line in calls(caller)] == [("gateway-http", "missing")]
        eventually(lambda: [one[0] for one in problems(gateway, AGENT)], ["warning"], within=10)
    finally:
        make_order(gateway, shop)
        in_force(gateway)

    assert FOUND in ask(caller.client, AGENT, ORDER).content
    eventually(lambda: problems(gateway, AGENT), [], within=10)


def test_workflow_that_asks_for_a_missing_tool_fails_in_words(caller: Caller, gateway: GatewayServer, ask: Ask) -> None:
    change(gateway, "order", enabled=False)
    try:
        with pytest.raises(openai.APIError) as caught:
            ask(caller.client, FLOW, ORDER)
    finally:
        change(gateway, "order", enabled=True)

    assert caught.value.code == "tool_missing"
    assert caught.value.message.endswith("cannot run: The gateway has no tool 'order'.")


# --- metrics ---------------------------------------------------------------------------------------------------------


def test_calls_of_every_source_are_counted_and_timed(caller: Caller, gateway: GatewayServer) -> None:
    key = gateway.operator.issue_key("Prometheus", may_administer=True)["credential"]
    eventually(lambda: bool(samples(gateway, key)), True)
    wanted = {
        ("gateway_tool_calls_total", "ok", source, tool)
        for tool, source in [
            ("order", "gateway-http"),
            ("days_between", "gateway-local"),
            ("shout", "sdk-native"),
            ("add", "mcp"),
        ]
    }
    before = samples(gateway, key)

    ask_whole(caller.client, AGENT, f'{ORDER} {DAYS} [[tool=shout]] [[args={{"text": "x"}}]]')
    ask_whole(caller.client, "default/mcpstdio", '[[tool=add]] [[args={"a": 2, "b": 3}]]')

    after = samples(gateway, key)
    assert {name: after[name] - before.get(name, 0) for name in wanted} == dict.fromkeys(wanted, 1)
    for _, _, source, tool in wanted:
        count, seconds = (f"gateway_tool_call_duration_seconds_{one}" for one in ("count", "sum"))
        assert after[count, source, tool] >= 1
        assert after[seconds, source, tool] > 0
