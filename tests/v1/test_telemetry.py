"""Traces and metrics by OTLP, to a collector that takes them, one that does not, and none."""

import contextlib
import json
import re
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.conftest import FIXTURE_AGENTS, write_agent, write_source
from tests.fakes.otlp_collector import Collector, Export, Span, values
from tests.harness import DemoServer, FaultyServer, GatewayServer, Template, eventually
from tests.harness.asking import ask_streamed, ask_whole
from tests.harness.processes import ROOT

PLAIN = 'from agents import Agent\n\nagent = Agent(name="Plain", instructions="Answer.")\n'
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
QUICK = {"OTEL_BSP_SCHEDULE_DELAY": "50", "OTEL_METRIC_EXPORT_INTERVAL": "200"}

_numbers = count()


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with Collector() as server:
        yield server


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, template: Template, demo: DemoServer, collector: Collector
) -> Iterator[GatewayServer]:
    folder = tmp_path_factory.mktemp("telemetry")
    for name in ("Triage", "Workflow", "GuardBlocking"):
        write_source(folder / "agents" / name, (FIXTURE_AGENTS / name / "agent.py").read_text())
    for model in ("length", "http-500"):
        write_agent(folder / "agents" / model, model=f"faulty/{model}")
    settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_RESOURCE_ATTRIBUTES": "deployment=test", **QUICK}
    with GatewayServer(folder / "data", agents=folder / "agents", template=template, **settings) as server:
        server.operator.make(
            "catalog.DeclaredAgent", namespace="desk", name="helper", stage="live", instructions="Help."
        )
        server.operator.put_upstream(
            "open", kind="other", base_url=demo.base_url, models=["demo"], default_model="demo", exposes_models=True
        )
        eventually(lambda: {"desk/helper", "open/demo"} <= {one.id for one in server.openai().models.list()}, True)
        yield server


def ask(
    server: GatewayServer, model: str, asked: Any = "[[say=Hi.]]", how: Callable[..., Any] = ask_whole, **headers: str
) -> dict[str, Any]:
    """The row of the run."""
    identifier = f"telemetry-{next(_numbers)}"
    with contextlib.suppress(openai.APIError):
        how(server.openai(), model, asked, extra_headers={"x-request-id": identifier, **headers})
    return server.wait_for_run(request_id=identifier)


def tree(collector: Collector, run: dict[str, Any]) -> list[Span]:
    """The spans of a run in the order in which they began, once the run's own is there: it comes last."""
    eventually(lambda: any(one.id == run["id"][-16:] for one in collector.spans), True)
    spans = [one for one in collector.spans if one.attributes["gateway.run.id"] == run["id"]]
    assert {one.trace_id for one in spans} == {run["trace_id"]}
    spans.sort(key=lambda one: (one.began, one.kind != "server"))
    for one in spans:
        assert spans[0].began <= one.began <= one.ended <= spans[0].ended + 1_000_000
    return spans


def told(spans: list[Span]) -> list[tuple[str, str, str]]:
    """Of each its name, kind and the name of its parent."""
    names = {one.id: one.name for one in spans}
    return [(one.name, one.kind, names.get(one.parent, one.parent)) for one in spans]


def test_run_is_a_tree_of_spans(server: GatewayServer, collector: Collector) -> None:
    run = ask(server, "default/triage", 'My invoice! [[tool=find_invoice]] [[args={"number": 7}]]')

    spans = tree(collector, run)
    whole = "invoke_agent default/triage"
    assert told(spans) == [
        (whole, "server", ""),
        ("invoke_agent Triage", "internal", whole),
        ("chat demo", "client", "invoke_agent Triage"),
        ("handoff Billing", "internal", "invoke_agent Triage"),
        ("invoke_agent Billing", "internal", whole),
        ("chat demo", "client", "invoke_agent Billing"),
        ("execute_tool find_invoice", "internal", "invoke_agent Billing"),
        ("chat demo", "client", "invoke_agent Billing"),
    ]
    assert run["trace_id"] == run["id"].removeprefix("chatcmpl-")
    assert {one.status for one in spans} == {""}
    assert [spans[index].attributes for index in (0, 3, 6)] == [
        {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.provider.name": "llm",
            "gen_ai.request.model": "demo",
            "gen_ai.request.stream": False,
            "gen_ai.agent.id": "default/triage",
            "gen_ai.agent.version": run["agent_digest"][:12],
            "gen_ai.response.id": run["id"],
            "gen_ai.response.finish_reasons": ["stop"],
            "gen_ai.usage.input_tokens": run["prompt_tokens"],
            "gen_ai.usage.output_tokens": run["completion_tokens"],
            "gateway.run.id": run["id"],
            "gateway.run.outcome": "completed",
            "gateway.request.id": run["request_id"],
            "gateway.key.id": run["key_id"],
        },
        {
            "gen_ai.operation.name": "handoff",
            "gen_ai.agent.name": "Billing",
            "gateway.handoff.from": "Triage",
            "gateway.run.id": run["id"],
            "gateway.step.outcome": "ok",
        },
        {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": "find_invoice",
            "gen_ai.tool.type": "function",
            "gateway.tool.source": "sdk-native",
            "gateway.tool.module": "agents.triage.agent",
            "gateway.run.id": run["id"],
            "gateway.step.outcome": "ok",
        },
    ]
    call = spans[2].attributes
    assert call.pop("gen_ai.response.time_to_first_chunk") > 0
    assert call.pop("gen_ai.usage.input_tokens") > 10
    assert call.pop("gen_ai.usage.output_tokens") > 0
    assert call == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "llm",
        "gen_ai.request.model": "demo",
        "gen_ai.response.finish_reasons": ["tool_calls"],
        "gateway.model_call.attempts": 1,
        "gateway.run.id": run["id"],
        "gateway.step.outcome": "ok",
    }
    about = dict(spans[0].resource)
    assert about.pop("process.pid") == server.pid
    assert re.fullmatch(r"[0-9a-f-]{36}", about.pop("service.instance.id"))
    assert {name: about[name] for name in ("service.name", "service.version", "deployment")} == {
        "service.name": "agent-gateway",
        "service.version": re.findall(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[0],
        "deployment": "test",
    }


@pytest.mark.parametrize(
    ("model", "how", "expected"),
    [
        ("desk/helper", ask_whole, ["invoke_agent desk/helper", "chat demo"]),
        ("desk/helper", ask_streamed, ["invoke_agent desk/helper", "chat demo"]),
        ("open/demo", ask_whole, ["chat open/demo", "chat demo"]),
        ("open/demo", ask_streamed, ["chat open/demo", "chat demo"]),
        (
            "default/workflow",
            ask_streamed,
            [
                "invoke_workflow default/workflow",
                "invoke_agent Classifier",
                "chat demo",
                "invoke_agent Answerer",
                "chat demo",
            ],
        ),
    ],
)
def test_every_kind_of_run_has_spans(
    server: GatewayServer, collector: Collector, model: str, how: Callable[..., Any], expected: list[str]
) -> None:
    run = ask(server, model, how=how)

    spans = tree(collector, run)
    assert [one.name for one in spans] == expected
    assert ("gen_ai.response.time_to_first_chunk" in spans[0].attributes) == (how is ask_streamed)


def test_failure_is_an_error_in_the_run_and_in_the_call(server: GatewayServer, collector: Collector) -> None:
    run = ask(server, "default/http-500")

    spans = tree(collector, run)
    assert [(one.name, one.status, one.attributes.get("error.type")) for one in spans] == [
        ("invoke_agent default/http-500", "error", run["error_code"]),
        ("invoke_agent http-500", "error", "error"),
        ("chat http-500", "error", "error"),
    ]
    assert spans[0].message == run["error"] != ""


def test_declined_run_is_no_error(server: GatewayServer, collector: Collector) -> None:
    spans = tree(collector, ask(server, "default/guardblocking", "secret"))

    assert [(one.name, one.status) for one in spans] == [
        ("invoke_agent default/guardblocking", ""),
        ("invoke_agent Guarded", ""),
        ("guardrail no_secrets", ""),
    ]
    assert spans[0].attributes["gateway.run.outcome"] == "refused"


def test_clients_trace_goes_on_through_the_run_to_the_upstream(
    server: GatewayServer, collector: Collector, faulty: FaultyServer
) -> None:
    run = ask(server, "default/length", traceparent=f"00-{TRACE}-{SPAN}-01", tracestate="vendor=1")

    spans = tree(collector, run)
    assert (run["trace_id"], spans[0].parent) == (TRACE, SPAN)
    assert {one.state for one in spans} == {"vendor=1"}
    call = next(one for one in spans if one.kind == "client")
    sent = faulty.last()["headers"]
    assert (sent["traceparent"], sent["tracestate"]) == (f"00-{TRACE}-{call.id}-01", "vendor=1")
    line = server.wait_for_log(event="run_finished", request_id=run["request_id"])
    assert line["trace_id"] == TRACE


def test_trace_that_the_client_does_not_sample_is_not_sent(
    server: GatewayServer, collector: Collector, faulty: FaultyServer
) -> None:
    unsampled = ask(server, "default/length", traceparent=f"00-{TRACE}-{SPAN}-00")
    headers = faulty.last()["headers"]["traceparent"]
    tree(collector, ask(server, "default/length"))

    assert re.fullmatch(rf"00-{TRACE}-[0-9a-f]{{16}}-00", headers)
    assert [one for one in collector.spans if one.attributes["gateway.run.id"] == unsampled["id"]] == []


def test_contents_are_sent_when_they_are_recorded(server: GatewayServer, collector: Collector) -> None:
    asked = 'Token sk-abcdefghijklmnopqrstuvwxyz0123. [[tool=find_invoice]] [[args={"number": 7}]]'
    before = tree(collector, ask(server, "default/triage", asked))
    (row,) = server.operator.rows("execution.Recording") or [None]
    id = row["id"] if row else server.operator.make("execution.Recording", record_contents=True)
    server.operator.change("execution.Recording", id, record_contents=True)
    try:
        eventually(lambda: "gen_ai.input.messages" in _last_call(collector, server, asked), True, within=10)
        spans = tree(collector, ask(server, "default/triage", asked))
    finally:
        server.operator.change("execution.Recording", id, record_contents=False)

    assert [name for one in before for name in one.attributes if "messages" in name or "arguments" in name] == []
    (tool,) = [one.attributes for one in spans if one.name == "execute_tool find_invoice"]
    assert json.loads(tool["gen_ai.tool.call.arguments"]) == {"number": 7}
    assert tool["gen_ai.tool.call.result"] == "Invoice 7 is paid."
    last = [one.attributes for one in spans if one.kind == "client"][-1]
    sent = json.loads(last["gen_ai.input.messages"])
    assert [one["role"] for one in sent] == ["system", "user", "assistant", "tool", "assistant", "tool"]
    assert "sk-abcdef" not in last["gen_ai.input.messages"]
    assert sent[-1]["parts"][0] == {
        "type": "tool_call_response",
        "id": sent[-2]["parts"][0]["id"],
        "response": "Invoice 7 is paid.",
    }
    (said,) = json.loads(last["gen_ai.output.messages"])
    assert (said["role"], said["finish_reason"]) == ("assistant", "stop")


def _last_call(collector: Collector, server: GatewayServer, asked: str) -> dict[str, Any]:
    spans = tree(collector, ask(server, "default/triage", asked))
    return [one.attributes for one in spans if one.kind == "client"][-1]


def test_metrics_are_those_of_the_registry_by_the_conventions_names(
    server: GatewayServer, collector: Collector
) -> None:
    key = server.operator.issue_key("otlp", may_administer=True)["credential"]
    ask(server, "open/demo", how=ask_streamed)

    def scraped() -> dict[str, Any]:
        answer = server.request("GET", "/admin/metrics", headers={"x-api-key": key})
        return answer.json() if answer.status == 200 else {}

    eventually(lambda: bool(scraped()), True)
    samples = [one for family in scraped()["metrics"] for one in family["samples"]]
    runs = sum(one["value"] for one in samples if one["name"] == "gateway_runs_total")
    eventually(lambda: counted(collector.exports[-1]), runs)
    export = collector.exports[-1]
    duration = export.metrics["gen_ai.server.request.duration"]
    assert (duration.unit, duration.histogram.aggregation_temporality) == ("s", 2)
    (point,) = [
        one
        for one in duration.histogram.data_points
        if values(one.attributes) == {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "open",
            "gen_ai.agent.id": "open/demo",
            "gen_ai.request.model": "demo",
        }
    ]  # fmt: skip
    assert (len(point.bucket_counts), len(point.explicit_bounds)) == (15, 14)
    assert sum(point.bucket_counts) == point.count > 0
    assert 0 < point.start_time_unix_nano < point.time_unix_nano
    assert export.metrics["gateway.event_loop_lag_max"].WhichOneof("data") == "gauge"
    assert {"gen_ai.server.time_to_first_token", "gen_ai.client.token.usage", "process.cpu"} <= set(export.metrics)
    assert export.metrics["gateway.runs"].sum.is_monotonic


def test_collector_that_goes_away_is_told_of_once_and_costs_no_answer(
    start_gateway: Callable[..., GatewayServer],
) -> None:
    with Collector() as collector:
        settings = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{collector.url}/v1/traces", **QUICK}
        server = start_gateway({"Plain": PLAIN}, OTEL_EXPORTER_OTLP_TIMEOUT="4", **settings)
        tree(collector, ask(server, "plain"))

        collector.stop()
        for _ in range(3):
            assert ask(server, "plain")["outcome"] == "completed"
        line = server.wait_for_log(event="telemetry_not_sent")
        assert (line["signal"], line["endpoint"]) == ("traces", f"{collector.url}/v1/traces")
        assert "refused" in line["reason"]
        assert line["remedy"]

        collector.start()
        eventually(lambda: bool(ask(server, "plain") and server.log(event="telemetry_sent_again")), True, within=20)
        assert server.log(event="telemetry_sent_again")[0]["lost"] >= 3
        assert len(server.log(event="telemetry_not_sent")) == 1
        assert [line for line in server.log() if line.get("logger", "").startswith("opentelemetry")] == []
        assert collector.exports == []  # of the metrics nothing was asked

        ask_whole(server.openai(), "plain", "Hi", extra_headers={"x-request-id": "last"})
        server.stop()
        (last,) = server.operator.runs(request_id="last")
        assert [one.trace_id for one in collector.spans if one.id == last["id"][-16:]] == [last["trace_id"]]


def counted(export: Export) -> float:
    """Runs."""
    points = export.metrics["gateway.runs"].sum.data_points if "gateway.runs" in export.metrics else ()
    return sum(one.as_double for one in points)


def test_missing_packages_are_told_and_the_gateway_serves(
    start_gateway: Callable[..., GatewayServer], tmp_path: Path
) -> None:
    write_source(tmp_path / "blocker", BLOCKER, name="sitecustomize.py")
    settings = {"PYTHONPATH": str(tmp_path / "blocker"), "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    server = start_gateway({"Plain": PLAIN}, **settings)

    (line,) = server.log(event="telemetry_unavailable")
    assert (line["level"], "make otel" in line["remedy"]) == ("error", True)
    assert ask(server, "plain")["outcome"] == "completed"


BLOCKER = """
import sys


class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.startswith(("opentelemetry.sdk", "opentelemetry.exporter")):
            raise ModuleNotFoundError(name)


sys.meta_path.insert(0, Blocker())
"""


def test_nothing_is_sent_without_the_variable_but_a_clients_trace(gateway: GatewayServer, faulty: FaultyServer) -> None:
    ask(gateway, "faulty/length")
    alone = faulty.last()["headers"]
    run = ask(gateway, "faulty/length", traceparent=f"00-{TRACE}-{SPAN}-01")
    with_client = faulty.last()["headers"]
    invalid = ask(gateway, "faulty/length", traceparent=f"00-{TRACE}-{'0' * 16}-01")

    assert "traceparent" not in alone
    assert (run["trace_id"], with_client["traceparent"]) == (TRACE, f"00-{TRACE}-{SPAN}-01")
    assert invalid["trace_id"] == invalid["id"].removeprefix("chatcmpl-")
    assert "traceparent" not in faulty.last()["headers"]
    assert gateway.log(event="telemetry_started") == []
