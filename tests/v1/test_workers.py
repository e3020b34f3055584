"""Two worker processes on one database: every change is live in both within a second."""

import json
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.conftest import write_agent, write_source
from tests.fakes.faulty_upstream import TEXT
from tests.harness import DemoServer, FaultyServer, GatewayServer, Template, eventually
from tests.harness.gateway import configure_upstreams
from tests.harness.scratch_database import scratch_database

REPORTER = (Path(__file__).parents[1] / "fixtures" / "gateway_agents" / "Reporter" / "agent.py").read_text()
HOW_MANY = 40  # requests on connections of their own, sixteen at a time: both processes get some


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def workers(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    template: Template,
    demo: DemoServer,
    faulty: FaultyServer,
) -> Iterator[GatewayServer]:
    folder = tmp_path_factory.mktemp(f"workers-{request.param}")
    write_source(folder / "agents" / "Reporter", REPORTER)
    write_agent(folder / "agents" / "Switching", model="switching/ok")
    write_agent(folder / "agents" / "Switched", model="demo")
    settings: dict[str, Any] = {"agents": folder / "agents", "GATEWAY_WORKERS": "2"}
    if request.param == "sqlite":
        with GatewayServer(folder / "data", template=template, **settings) as server:
            eventually(lambda: len(pids(server)), 2, within=30)
            yield server
        return
    with scratch_database() as url, GatewayServer(folder / "data", DATABASE_URL=url, **settings) as server:
        configure_upstreams(server.operator, demo, faulty)
        eventually(lambda: len(pids(server)), 2, within=30)
        yield server


def each(asked: Callable[[], Any]) -> list[Any]:
    """The answers to many requests, each on a fresh connection."""
    with ThreadPoolExecutor(16) as pool:
        return list(pool.map(lambda _: asked(), range(HOW_MANY)))


def chat(gateway: GatewayServer, model: str, asked: str = "Hi", *, request_id: str = "") -> tuple[int, str]:
    """Status, and the content or the error's code."""
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": asked}]}).encode()
    answer = gateway.with_key("POST", "/v1/chat/completions", body=body, x_request_id=request_id)
    if answer.status != 200:
        return answer.status, answer.error["code"]
    return 200, answer.json()["choices"][0]["message"]["content"]


def pids(gateway: GatewayServer) -> set[str]:
    return {content for _, content in each(lambda: chat(gateway, "default/reporter", "[[tool=describe]]"))}


def test_requests_reach_both_workers(workers: GatewayServer) -> None:
    described = eventually(lambda: len(pids(workers)), 2)

    assert described == 2


def test_issued_key_is_live_in_both_and_revoked_in_both(workers: GatewayServer) -> None:
    key = workers.operator.issue_key("for both")

    def statuses() -> set[int]:
        headers = {"x-api-key": key["credential"]}
        return set(each(lambda: workers.request("GET", "/v1/models", headers=headers).status))

    eventually(statuses, {200})
    workers.operator.revoke_key(key["id"])
    eventually(statuses, {401})


def test_edited_upstream_is_live_in_both(workers: GatewayServer, demo: DemoServer, faulty: FaultyServer) -> None:
    def answers() -> set[tuple[int, str]]:
        return set(each(lambda: chat(workers, "default/switching", "[[say=From the demo.]]")))

    workers.operator.put_upstream("switching", kind="other", base_url=demo.base_url, models=["ok"])
    eventually(answers, {(200, "From the demo.")})

    workers.operator.put_upstream("switching", base_url=faulty.base_url, models=["ok"])
    eventually(answers, {(200, TEXT)})

    workers.operator.put_upstream("switching", enabled=False, models=["ok"])
    eventually(answers, {(200, "From the demo.")})  # of the default upstream


def test_disabled_agent_is_refused_by_both_and_enabled_again(workers: GatewayServer) -> None:
    def answers() -> set[tuple[int, str]]:
        return set(each(lambda: chat(workers, "default/switched", "[[say=Here.]]")))

    eventually(answers, {(200, "Here.")})
    workers.operator.set_agent("default/switched", enabled=False)
    eventually(answers, {(503, "agent_disabled")})
    workers.operator.set_agent("default/switched", enabled=True)
    eventually(answers, {(200, "Here.")})


def test_alias_is_known_to_both(workers: GatewayServer) -> None:
    workers.operator.set_agent("default/switched", aliases=["helpdesk"])

    eventually(lambda: set(each(lambda: chat(workers, "helpdesk", "[[say=Here.]]"))), {(200, "Here.")})


def test_dropped_in_agent_answers_in_both(workers: GatewayServer) -> None:
    write_agent(workers.agents / "Newcomer", model="demo")

    eventually(lambda: set(each(lambda: chat(workers, "default/newcomer", "[[say=New.]]"))), {(200, "New.")}, within=8)


def test_agent_that_the_database_cannot_hold_keeps_no_other_from_being_recorded(workers: GatewayServer) -> None:
    """PostgreSQL refuses NUL in text."""
    source = 'from agents import Agent\n\nagent = Agent(name="a\\x00b \\ud83d", handoff_description="c\\x00d")\n'
    write_source(workers.agents / "Unspeakable", source)
    eventually(lambda: set(each(lambda: chat(workers, "unspeakable", "[[say=I am.]]"))), {(200, "I am.")}, within=8)

    write_agent(workers.agents / "Ordinary", model="demo")

    eventually(lambda: workers.operator.agent_state("default/ordinary"), "live", within=8)
    eventually(lambda: workers.operator.agent_state("default/unspeakable"), "live")
    shutil.rmtree(workers.agents / "Unspeakable")
    eventually(lambda: set(each(lambda: chat(workers, "unspeakable"))), {(404, "model_not_found")}, within=8)


def test_runs_of_both_are_written(workers: GatewayServer) -> None:
    asked = each(lambda: chat(workers, "default/switched", "[[say=Row.]]", request_id="rows"))

    assert set(asked) == {(200, "Row.")}
    eventually(lambda: workers.operator.count_runs(request_id="rows"), HOW_MANY)


def test_lost_database_connections_are_made_anew(workers: GatewayServer) -> None:
    """As after a restart of the database server: chats go on, rows are written, changes are seen."""
    if "DATABASE_URL" not in workers.environment:
        pytest.skip("SQLite has no connections to lose")
    with psycopg.connect(workers.environment["DATABASE_URL"], autocommit=True) as admin:
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )

    asked = each(lambda: chat(workers, "default/switched", "[[say=Row.]]", request_id="rows-after-loss"))

    assert set(asked) == {(200, "Row.")}
    eventually(lambda: workers.operator.count_runs(request_id="rows-after-loss"), HOW_MANY, within=10)
    key = workers.operator.issue_key("after the loss")
    headers = {"x-api-key": key["credential"]}
    eventually(lambda: set(each(lambda: workers.request("GET", "/v1/models", headers=headers).status)), {200})
