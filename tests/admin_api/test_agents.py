"""/agents, /agents/refresh and /admin/agents, over a real gateway."""

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.conftest import write_source
from tests.harness import GatewayServer, Template, eventually

TRIAGE = '''"""Sends people on.

More."""

from agents import Agent, function_tool


@function_tool
def look_up(name: str) -> str:
    return name


refunds = Agent(name="Refunds", instructions="-", model="faulty/ok")
agent = Agent(name="Triage", instructions="-", tools=[look_up], handoffs=[refunds])
'''
PLAIN = 'from agents import Agent\n\nagent = Agent(name="{name}", instructions="{version}")\n'
BROKEN = "import nothing_like_this\n"
NOTHING = {
    "runs": 0, "failed": 0, "refused": 0, "cancelled": 0, "error_rate": None, "prompt_tokens": 0,
    "completion_tokens": 0, "cost_usd": 0.0,
}  # fmt: skip


class Gateway:
    """The server, with a key of an operator; `agents` is its folder."""

    def __init__(self, server: GatewayServer) -> None:
        self.server, self.agents = server, server.agents
        self._key = server.operator.issue_key("Operator", may_administer=True, may_chat=False)["credential"]
        eventually(lambda: self.ask("GET", "/agents")[0], 200)

    def ask(self, method: str, path: str) -> tuple[int, Any]:
        answer = self.server.request(method, path, headers={"x-api-key": self._key})
        return answer.status, json.loads(answer.body)

    def data(self, path: str) -> Any:
        status, answer = self.ask("GET", path)
        assert status == 200, answer
        return answer["data"]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, template: Template) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("operators")
    write_source(folder / "agents" / "Triage", TRIAGE)
    write_source(folder / "agents" / "Broken", BROKEN)
    write_source(folder / "agents" / "labs" / "Plain", PLAIN.format(name="Plain", version=0))
    with GatewayServer(
        folder / "data", agents=folder / "agents", template=template, GATEWAY_AGENT_AUTO_RELOAD="false",
        GATEWAY_AGENT_WATCH="false",
    ) as server:  # fmt: skip
        server.operator.make("catalog.DeclaredAgent", name="helpdesk", stage="live", title="Help desk", tools=["none"])
        server.operator.make("catalog.DeclaredAgent", name="sketch", instructions="-")
        server.operator.put_upstream("llm", exposes_models=True, models=["demo"])
        server.operator.set_agent("labs/plain", enabled=False, parameters={"temperature": 0.2}, max_turns=3)
        gateway = Gateway(server)
        eventually(lambda: len(gateway.data("/agents")), 6)
        yield gateway


def test_every_agent_and_model_is_listed_with_what_it_is(gateway: Gateway) -> None:
    columns = ("id", "kind", "state", "enabled", "upstream", "model", "problems")
    listed = gateway.data("/agents")
    assert [tuple(one[name] for name in columns) for one in listed] == [
        ("default/broken", "drop_in", "broken", True, "", "", 1),
        ("default/helpdesk", "declared", "live", True, "llm", "demo", 1),
        ("default/sketch", "declared", "live", False, "llm", "demo", 0),
        ("default/triage", "drop_in", "live", True, "llm", "demo", 0),
        ("labs/plain", "drop_in", "live", False, "llm", "demo", 0),
        ("llm/demo", "model", "live", True, "llm", "demo", 0),
    ]
    assert [(one["name"], one["description"]) for one in listed[1:4:2]] == [
        ("Help desk", ""),
        ("Triage", "Sends people on."),
    ]
    assert [len(one["version"]) for one in listed] == [0, 64, 64, 64, 64, 0]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("kind=declared", ["default/helpdesk", "default/sketch"]),
        ("state=broken", ["default/broken"]),
        ("enabled=false", ["default/sketch", "labs/plain"]),
        ("namespace=labs", ["labs/plain"]),
        ("q=SENDS", ["default/triage"]),
        ("kind=drop_in&q=desk", []),
        ("limit=2&offset=1", ["default/helpdesk", "default/sketch"]),
    ],
)
def test_agents_are_filtered_and_paged_alike_in_short_and_in_full(
    gateway: Gateway, query: str, found: list[str]
) -> None:
    assert [one["id"] for one in gateway.data(f"/agents?{query}")] == found
    assert [one["id"] for one in gateway.data(f"/admin/agents?{query}")] == found


def test_agent_in_full(gateway: Gateway) -> None:
    (short,) = gateway.data("/agents?q=triage")
    (full,) = gateway.data("/admin/agents?q=triage")

    (worker,) = full.pop("workers")
    assert (worker["worker"].split(":")[1], worker["is_the_same"]) == (str(gateway.server.pid), True)
    assert worker["version"] == short["version"][:12]
    node = {"model_of_its_own": False, "gateway_tools": [], "mcp_servers": []}
    assert full == {
        **short,
        "aliases": [],
        "export": "agent",
        "graph": [
            {"name": "Triage", "model": "", "tools": ["look_up"], "handoffs": ["Refunds"], **node},
            {"name": "Refunds", "model": "faulty/ok", "tools": [], "handoffs": [], **node},
        ],
        "settings": {
            "enabled": True, "listed": True, "upstream": "", "model": "", "parameters": {}, "max_turns": None,
            "run_timeout": None, "on_disconnect": "cancel", "dry_run": False, "build_per_run": False,
            "own_client": False, "stage": None,
        },
        "diagnostics": [],
        "last_run": None,
        "last_day": NOTHING,
    }  # fmt: skip


def test_settings_and_diagnostics_of_the_others(gateway: Gateway) -> None:
    by_id = {one["id"]: one for one in gateway.data("/admin/agents")}

    changed = by_id["labs/plain"]["settings"]
    assert (changed["parameters"], changed["max_turns"], changed["enabled"]) == ({"temperature": 0.2}, 3, False)
    assert [by_id[f"default/{name}"]["settings"]["stage"] for name in ("helpdesk", "sketch")] == ["live", "draft"]
    assert [(id, one["diagnostics"][0]["code"]) for id, one in by_id.items() if one["diagnostics"]] == [
        ("default/broken", "missing_dependency"),
        ("default/helpdesk", "tools_missing"),
    ]
    assert [by_id[id]["graph"] for id in ("default/broken", "llm/demo")] == [
        [],
        [{
            "name": "demo", "model": "demo", "model_of_its_own": False, "tools": [], "gateway_tools": [],
            "handoffs": [], "mcp_servers": [],
        }],
    ]  # fmt: skip


def test_last_run_and_day_of_every_kind_of_agent(gateway: Gateway) -> None:
    make, now = gateway.server.operator.make, datetime.now(UTC)
    for number, agent in enumerate(("default/triage", "default/helpdesk", "llm/demo")):
        for minutes, outcome in ((50, "completed"), (5, "failed")):
            make(
                "execution.Run", id=f"{number + 1}{minutes:02}", request_id="r", agent_id=agent, outcome=outcome,
                started_at=(now - timedelta(minutes=minutes)).isoformat(), duration_ms=7.5, error_code="tool_error",
            )  # fmt: skip
        for hours, runs, failed in ((1, 10, 2), (2, 30, 0), (25, 5, 5)):
            make(
                "execution.RunBucket", agent_id=agent, began_at=(now - timedelta(hours=hours)).isoformat(), runs=runs,
                failed=failed, prompt_tokens=100, cost_usd=0.25,
            )  # fmt: skip

    by_id = {one["id"]: one for one in gateway.data("/admin/agents")}

    told = {id: (one["last_run"]["id"], one["last_run"]["outcome"]) for id, one in by_id.items() if one["last_run"]}
    assert told == {
        "default/triage": ("105", "failed"),
        "default/helpdesk": ("205", "failed"),
        "llm/demo": ("305", "failed"),
    }
    days = [by_id[id]["last_day"] for id in told]
    expected = {**NOTHING, "runs": 40, "failed": 2, "error_rate": 0.05, "prompt_tokens": 200, "cost_usd": 0.5}
    assert days == [expected] * 3
    assert by_id["labs/plain"]["last_day"] == NOTHING


def test_refresh_says_what_changed_and_clients_meet_it(gateway: Gateway) -> None:
    assert gateway.ask("POST", "/agents/refresh") == (
        200,
        {
            "added": [], "reloaded": [], "removed": [], "failed": [], "agents": 6, "worker": gateway.server.pid,
            "discovery": "off",
        },
    )  # fmt: skip
    write_source(gateway.agents / "New", PLAIN.format(name="New", version=0))
    write_source(gateway.agents / "labs" / "Plain", PLAIN.format(name="Plain", version=1))
    write_source(gateway.agents / "Worse", "def (:\n")

    _, told = gateway.ask("POST", "/agents/refresh")

    assert [told[name] for name in ("added", "reloaded", "removed", "failed")] == [
        ["default/new", "default/worse"],
        ["labs/plain"],
        [],
        ["default/worse"],
    ]
    said = gateway.server.openai().chat.completions.create(
        model="default/new", messages=[{"role": "user", "content": "[[say=Here.]]"}]
    )
    assert said.choices[0].message.content == "Here."
    for name in ("New", "Worse"):
        (gateway.agents / name / "agent.py").unlink()
        (gateway.agents / name).rmdir()
    assert gateway.ask("POST", "/agents/refresh")[1]["removed"] == ["default/new", "default/worse"]


def test_refreshes_that_come_at_once_neither_pile_up_nor_hold_up_clients(gateway: Gateway) -> None:
    slow = "import time\n\ntime.sleep(0.8)\n\n" + PLAIN.format(name="Slow", version=0)
    write_source(gateway.agents / "Slow", slow)
    waits: list[float] = []
    done = threading.Event()

    def ask_health() -> None:
        while not done.is_set():
            before = time.monotonic()
            assert gateway.server.request("GET", "/health").status == 200
            waits.append(time.monotonic() - before)

    with ThreadPoolExecutor(13) as threads:
        clients = threads.submit(ask_health)
        begun = time.monotonic()
        answers = list(threads.map(lambda _: gateway.ask("POST", "/agents/refresh"), range(12)))
        took = time.monotonic() - begun
        done.set()
        clients.result()

    assert [status for status, _ in answers] == [200] * 12
    assert [told["added"] for _, told in answers].count(["default/slow"]) >= 1
    assert (took < 6, max(waits) < 0.6, len(waits) > 10) == (True, True, True)
