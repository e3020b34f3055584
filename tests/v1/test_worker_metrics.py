"""Metrics of two worker processes: one sum, whoever is asked, that never falls, also not when a worker dies."""

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from time import time_ns
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import write_agent
from tests.fakes.otlp_collector import Collector, Export
from tests.harness import GatewayServer, Template, eventually
from tests.harness.process_table import children

AGENT = "default/counted"
WHAT = {
    "gateway_runs_total",
    "gen_ai_server_request_duration_seconds_count",
    "gen_ai_server_request_duration_seconds_sum",
    "gen_ai_client_token_usage_count",
    "gateway_upstream_attempts_total",
    "gateway_http_responses_total",
}


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with Collector() as server:
        yield server


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory,
    template: Template,
    two_workers: Callable[[], dict[str, str]],
    collector: Collector,
) -> Iterator[GatewayServer]:
    folder = tmp_path_factory.mktemp("metrics-of-workers")
    write_agent(folder / "agents" / "Counted", model="demo")
    settings = {
        **two_workers(),
        "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": f"{collector.url}/v1/metrics",
        "OTEL_METRIC_EXPORT_INTERVAL": "300",
    }
    with GatewayServer(folder / "data", agents=folder / "agents", template=template, **settings) as server:
        yield server


@pytest.fixture(scope="module")
def key(server: GatewayServer) -> str:
    """Of an operator; both workers know it."""
    key: str = server.operator.issue_key("Prometheus", may_administer=True)["credential"]
    eventually(lambda: set(together(12, lambda: ask_metrics(server, key)[0])), {200}, within=10)
    eventually(lambda: sum_of(scrape(server, key), "gateway_workers"), 2, within=30)
    return key


Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def together(count: int, do: Callable[[], Any]) -> list[Any]:
    """So many at once, each on a connection of its own: both workers get some."""
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(lambda _: do(), range(count)))


def ask_metrics(server: GatewayServer, key: str, path: str = "/metrics/prometheus") -> tuple[int, bytes]:
    answer = server.request("GET", path, headers={"x-api-key": key})
    return answer.status, answer.body


def scrape(server: GatewayServer, key: str) -> Samples:
    status, body = ask_metrics(server, key)
    assert status == 200
    families = text_string_to_metric_families(body.decode())
    return {(one.name, frozenset(one.labels.items())): one.value for family in families for one in family.samples}


def sum_of(samples: Samples, name: str, **labels: str) -> float:
    return sum(value for (found, of), value in samples.items() if found == name and labels.items() <= dict(of).items())


def chat(server: GatewayServer, model: str = AGENT) -> int:
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "[[say=Hi.]]"}]}).encode()
    return server.with_key("POST", "/v1/chat/completions", body=body).status


def runs(server: GatewayServer, key: str) -> float:
    return sum_of(scrape(server, key), "gateway_runs_total", agent=AGENT, outcome="completed")


def test_sums_are_exact_whichever_worker_is_asked(server: GatewayServer, key: str) -> None:
    before = runs(server, key)

    assert together(40, lambda: chat(server)) == [200] * 40

    # A worker that is not asked is seen as it was up to a second ago.
    eventually(lambda: set(together(8, lambda: runs(server, key) - before)), {40.0}, within=10)
    samples = scrape(server, key)
    assert sum_of(samples, "gen_ai_server_request_duration_seconds_count", gen_ai_agent_id=AGENT) == before + 40
    assert sum_of(samples, "gateway_upstream_attempts_total", upstream="llm", outcome="answered") == before + 40
    assert sum_of(samples, "gateway_runs_in_flight") == 0
    assert sum_of(samples, "gateway_upstream_state", upstream="llm") == 2  # each of the two is in one state
    assert sum_of(samples, "gateway_agents", state="live") == 1  # both workers tell of the same agent


def test_nothing_falls_when_a_worker_is_killed_and_what_it_had_counted_stays(server: GatewayServer, key: str) -> None:
    counted = runs(server, key) + 20
    assert together(20, lambda: chat(server)) == [200] * 20
    eventually(lambda: set(together(8, lambda: runs(server, key))), {counted}, within=10)
    falls: list[str] = []
    statuses: set[int] = set()
    ending = threading.Event()

    def watch() -> None:
        last: Samples = {}
        while not ending.is_set():
            try:
                status, body = ask_metrics(server, key)
            except OSError:  # the connection was of the worker that is killed
                continue
            statuses.add(status)
            families = text_string_to_metric_families(body.decode())
            now = {(one.name, frozenset(one.labels.items())): one.value for f in families for one in f.samples}
            now = {which: value for which, value in now.items() if which[0] in WHAT}
            falls.extend(f"{one}: {last[one]} -> {now.get(one)}" for one in last if now.get(one, 0) < last[one])
            last = now

    watcher = threading.Thread(target=watch)
    watcher.start()
    victim = min(workers(server))
    os.kill(victim, signal.SIGKILL)
    eventually(lambda: victim not in workers(server) and len(workers(server)), 2, within=30)
    eventually(lambda: sum_of(scrape(server, key), "gateway_workers"), 2, within=30)
    ending.set()
    watcher.join()

    assert (falls, statuses) == ([], {200})
    assert runs(server, key) == counted
    assert together(20, lambda: chat(server)) == [200] * 20
    eventually(lambda: set(together(8, lambda: runs(server, key))), {counted + 20}, within=10)


def test_json_has_the_same_sums(server: GatewayServer, key: str) -> None:
    def told(path: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(ask_metrics(server, key, path)[1])
        return found

    full = told("/admin/metrics?name=gateway_runs")
    (family,) = [one for one in full["metrics"] if one["name"] == "gateway_runs"]
    of_agent = [one["value"] for one in family["samples"] if one["labels"]["agent"] == AGENT]

    assert (full["workers"], sum(of_agent)) == (2, runs(server, key))


def test_collector_is_told_the_sums_by_one_worker_and_then_by_the_next(
    server: GatewayServer, key: str, collector: Collector
) -> None:
    eventually(lambda: exported(collector.exports[-1]), runs(server, key), within=10)

    sums = [exported(one) for one in collector.exports]
    assert sums == sorted(sums)
    assert len({one.resource["service.instance.id"] for one in collector.exports}) == 1
    (began,) = {
        point.start_time_unix_nano
        for one in collector.exports
        if "gateway.runs" in one.metrics
        for point in one.metrics["gateway.runs"].sum.data_points
    }
    assert began < time_ns()


def exported(export: Export) -> float:
    points = export.metrics["gateway.runs"].sum.data_points if "gateway.runs" in export.metrics else ()
    return sum(one.as_double for one in points)


def workers(server: GatewayServer) -> set[int]:
    """Their process ids; uvicorn spawns them with multiprocessing."""
    return children(server.pid, "spawn_main")
