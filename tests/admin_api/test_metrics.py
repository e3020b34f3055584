"""GET /metrics, /admin/metrics and /metrics/prometheus: what is measured, in three renderings of one thing."""

import contextlib
import json
from collections.abc import Callable, Iterator

import openai
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import write_agent, write_source
from tests.harness import GatewayServer, Template, eventually

PLAIN = 'from agents import Agent\n\nagent = Agent(name="Plain", instructions="Answer.")\n'
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float | None]


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory, template: Template) -> Iterator[GatewayServer]:
    folder = tmp_path_factory.mktemp("metrics")
    agents = folder / "agents"
    write_agent(agents / "Weather", model="demo", tools=True)
    write_agent(agents / "Faulty", model="faulty/http-500")
    write_agent(agents / "Odd", model='llm/we\\"ird\\\\ \\nmodel')
    write_source(agents / "Broken", "import nothing_like_this\n")
    with GatewayServer(folder / "data", agents=agents, template=template) as server:
        yield server


@pytest.fixture(scope="module")
def key(fresh: GatewayServer) -> str:
    fresh.operator.put_price("demo", prompt_usd=1000, completion_usd=0)
    key: str = fresh.operator.issue_key("Prometheus", may_administer=True)["credential"]
    eventually(lambda: fresh.request("GET", "/metrics", headers={"x-api-key": key}).status, 200)
    return key


@pytest.fixture(scope="module")
def server(fresh: GatewayServer, key: str) -> GatewayServer:
    """A few runs and mistakes lie behind it."""
    client = fresh.openai()
    for number in range(4):
        chat(client, "default/weather", "[[say=Hi.]]", stream=number < 2)
    chat(client, "default/weather", "[[tool=get_weather]]")
    for model in ("default/faulty", "default/odd", "default/made-up\n"):
        chat(client, model, "Hi")
    return fresh


def chat(client: openai.OpenAI, model: str, text: str, *, stream: bool = False) -> None:
    with contextlib.suppress(openai.APIStatusError):
        list(client.chat.completions.create(model=model, messages=[{"role": "user", "content": text}], stream=stream))


def ask(server: GatewayServer, key: str, path: str) -> bytes:
    answer = server.request("GET", path, headers={"authorization": f"Bearer {key}"})
    assert answer.status == 200, answer.body
    return answer.body


def prometheus(server: GatewayServer, key: str) -> Samples:
    found = text_string_to_metric_families(ask(server, key, "/metrics/prometheus").decode())
    return {(one.name, frozenset(one.labels.items())): one.value for family in found for one in family.samples}


def told(server: GatewayServer, key: str, path: str) -> Samples:
    found = json.loads(ask(server, key, path))["metrics"]
    return {
        (one["name"], frozenset(one["labels"].items())): one["value"] for family in found for one in family["samples"]
    }


def of(samples: Samples, name: str, **labels: str) -> list[float | None]:
    return [value for (found, its), value in samples.items() if found == name and labels.items() <= dict(its).items()]


def test_json_and_prometheus_tell_the_same_of_every_sample(server: GatewayServer, key: str) -> None:
    for path in ("/metrics/prometheus", "/admin/metrics"):  # so that these requests have series of their own
        ask(server, key, path)
    before, text, after = (
        told(server, key, "/admin/metrics"),
        prometheus(server, key),
        told(server, key, "/admin/metrics"),
    )

    assert text.keys() == before.keys() == after.keys()
    settled = {which for which in before if before[which] == after[which]}
    assert {which: text[which] for which in settled} == {which: before[which] for which in settled}
    # The rest rises with the requests themselves, or is the process's own.
    moving = {name for name, _ in before.keys() - settled}
    assert {name for name in moving if name.startswith("g")} <= {
        "gateway_config_age_seconds", "gateway_decisions_total", "gateway_event_loop_lag_max_seconds",
        "gateway_event_loop_lag_seconds_bucket", "gateway_event_loop_lag_seconds_count",
        "gateway_event_loop_lag_seconds_sum", "gateway_write_behind_backlog",
    }  # fmt: skip


def test_runs_are_told_by_agent_upstream_model_and_outcome(server: GatewayServer, key: str) -> None:
    samples = prometheus(server, key)
    weather = {"gen_ai_agent_id": "default/weather", "gen_ai_request_model": "demo", "gen_ai_provider_name": "llm"}

    assert of(samples, "gateway_runs_total", agent="default/weather", upstream="llm", outcome="completed") == [5]
    assert of(samples, "gateway_runs_total", agent="default/faulty", upstream="faulty", outcome="failed") == [1]
    assert of(samples, "gen_ai_server_request_duration_seconds_count", error_type="", **weather) == [5]
    assert of(samples, "gen_ai_server_time_to_first_token_seconds_count", **weather) == [2]  # those that were streamed
    assert of(samples, "gen_ai_client_token_usage_count", gen_ai_token_type="input", **weather) == [
        6
    ]  # two with the tool
    (tokens,) = of(samples, "gen_ai_client_token_usage_sum", gen_ai_token_type="input", **weather)
    assert of(samples, "gateway_cost_usd_total", agent="default/weather") == [pytest.approx(tokens / 1000)]
    (failed,) = [dict(labels) for name, labels in samples if "faulty" in dict(labels).get("gen_ai_agent_id", "")
                 and name == "gen_ai_server_request_duration_seconds_count"]  # fmt: skip
    assert (failed["gen_ai_operation_name"], failed["error_type"]) == ("invoke_agent", "upstream_rejected")
    assert of(samples, "gateway_runs_in_flight", agent="default/weather") == [0]
    assert of(samples, "gateway_http_responses_total", route="v1/chat/completions", status="200") == [6]


def test_names_that_clients_make_up_are_no_labels(server: GatewayServer, key: str) -> None:
    assert [labels for _, labels in prometheus(server, key) if "made-up" in str(labels)] == []


def test_label_keeps_quotes_backslashes_and_new_lines(server: GatewayServer, key: str) -> None:
    samples = prometheus(server, key)
    assert of(samples, "gateway_runs_total", agent="default/odd", model='we"ird\\ \nmodel') == [1]


def test_totals_are_the_sums_of_all_agents_and_models(server: GatewayServer, key: str) -> None:
    totals, samples = told(server, key, "/metrics"), prometheus(server, key)

    assert of(totals, "gateway_runs_total", outcome="completed") == [
        sum(value or 0 for value in of(samples, "gateway_runs_total", outcome="completed"))
    ]
    assert {name for name, _ in totals if name.endswith("_bucket")} == set()
    labels = {label for _, its in totals for label, _ in its}
    assert labels == {
        "action", "code", "gen_ai_operation_name", "gen_ai_token_type", "kind", "outcome", "reason", "route",
        "severity", "source", "state", "status", "unit", "writer",
    }  # fmt: skip


def test_tools_are_told_with_their_times(server: GatewayServer, key: str) -> None:
    (tool,) = json.loads(ask(server, key, "/metrics"))["tools"]
    times = [tool.pop(f"{which}_seconds") for which in ("min", "average", "max")]

    assert tool == {"tool": "get_weather", "source": "sdk-native", "calls": {"ok": 1}}
    assert times[0] == times[2] == pytest.approx(times[1])
    assert of(prometheus(server, key), "gateway_tool_call_max_seconds", tool="get_weather") == [times[2]]


def test_metrics_can_be_asked_for_by_name(server: GatewayServer, key: str) -> None:
    found = json.loads(ask(server, key, "/admin/metrics?name=gateway_tool_call_m"))

    assert [one["name"] for one in found["metrics"]] == [
        "gateway_tool_call_max_seconds",
        "gateway_tool_call_min_seconds",
    ]
    assert found["workers"] == 1


def test_agents_are_counted_by_state_and_a_broken_edit_is_named(server: GatewayServer, key: str) -> None:
    write_source(server.agents / "Odd", "def (:\n")

    expected = {
        ("gateway_agents", "live"): 2,
        ("gateway_agents", "stale"): 1,
        ("gateway_agents", "broken"): 1,
        ("gateway_agent_failing", "default/odd", "stale"): 1,
        ("gateway_agent_failing", "default/broken", "broken"): 1,
        ("gateway_agent_problems", "import", "error"): 2,
        ("gateway_agent_failures_total", "import"): 2,
        ("gateway_agent_failures_total", "blocked"): 0,
        ("gateway_agent_failures_total", "validation"): 0,
        ("gateway_agent_failures_total", "tool_violation"): 0,
    }

    def found() -> dict[tuple[str, ...], float]:
        text = ask(server, key, "/metrics/prometheus").decode()
        samples = [one for family in text_string_to_metric_families(text) for one in family.samples]
        return {(one.name, *one.labels.values()): one.value for one in samples if "_agent" in one.name[:14]}

    eventually(found, expected)


def test_prometheus_can_be_turned_off(start_gateway: Callable[..., GatewayServer]) -> None:
    server = start_gateway(agents={"Plain": PLAIN}, GATEWAY_PROMETHEUS_ENABLED="false")
    key = server.operator.issue_key("Prometheus", may_administer=True)["credential"]
    headers = {"x-api-key": key}

    eventually(lambda: server.request("GET", "/metrics/prometheus", headers=headers).status, 404)
    assert server.request("GET", "/metrics", headers=headers).status == 200
