"""GET /metrics/prometheus: what a scraper reads."""

from collections.abc import Callable

from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import write_source
from tests.harness import GatewayServer, eventually

PLAIN = 'from agents import Agent\n\nagent = Agent(name="Plain", instructions="Answer.")\n'


def samples(server: GatewayServer, key: str) -> dict[tuple[str, ...], float]:
    answer = server.request("GET", "/metrics/prometheus", headers={"authorization": f"Bearer {key}"})
    if answer.status != 200:
        return {}
    found = [one for family in text_string_to_metric_families(answer.body.decode()) for one in family.samples]
    return {(one.name, *one.labels.values()): one.value for one in found}


def test_agents_are_counted_by_state_and_a_broken_edit_is_named(start_gateway: Callable[..., GatewayServer]) -> None:
    server = start_gateway(agents={"Plain": PLAIN, "Other": PLAIN, "Broken": "import nothing_like_this\n"})
    key = server.operator.issue_key("Prometheus", may_administer=True)["credential"]
    eventually(lambda: bool(samples(server, key)), True)

    write_source(server.agents / "Plain", "def (:\n")

    expected = {
        ("gateway_agents", "live"): 1,
        ("gateway_agents", "stale"): 1,
        ("gateway_agents", "broken"): 1,
        ("gateway_agent_failing", "default/plain", "stale"): 1,
        ("gateway_agent_failing", "default/broken", "broken"): 1,
    }
    eventually(lambda: {name: n for name, n in samples(server, key).items() if "agent" in name[0]}, expected)


def test_metrics_can_be_turned_off(start_gateway: Callable[..., GatewayServer]) -> None:
    server = start_gateway(agents={"Plain": PLAIN}, GATEWAY_PROMETHEUS_ENABLED="false")
    key = server.operator.issue_key("Prometheus", may_administer=True)["credential"]
    headers = {"x-api-key": key}

    eventually(lambda: server.request("GET", "/metrics/prometheus", headers=headers).status, 404)
